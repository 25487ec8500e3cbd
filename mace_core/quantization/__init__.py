"""Post-training quantization: calibration on data, choice of encodings and of rounding, standard QDQ files, a report.

Kernels for quantized models are the providers'; nothing here runs at inference.
"""
