"""Post-training quantization: calibration on data, choice of encodings and of rounding, standard QDQ files, a report.

Kernels for quantized models are the providers'; nothing here runs at inference.
"""

from mace_core.quantization.outcome import Outcome
from mace_core.quantization.pipeline import Quantizer, quantize
from mace_core.quantization.settings import Settings

__all__ = ["Outcome", "Quantizer", "Settings", "quantize"]
