"""Post-training quantization: calibration on data, choice of encodings and of rounding, standard QDQ files, a report.

Kernels for quantized models are the providers'; nothing here runs at inference.
"""

from mace_core.quantization.pipeline import Quantized, Quantizer, quantize
from mace_core.quantization.settings import Settings

__all__ = ["Quantized", "Quantizer", "Settings", "quantize"]
