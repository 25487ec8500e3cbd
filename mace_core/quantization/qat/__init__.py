"""Quantization-aware training of PyTorch models, for the integer kernels of the providers.

Needs the extra ``qat``, which brings torch and torchao; nothing else of the framework imports them::

    from mace_core.quantization.qat import prepare, export_onnx

    trained = prepare(model.train(), example_inputs)
    ...  # the usual training loop
    export_onnx(trained, example_inputs, "model_int8.onnx")
"""

from mace_core.quantization.qat.export import export_onnx
from mace_core.quantization.qat.prepare import prepare
from mace_core.quantization.qat.quantizer import MaceQuantizer

__all__ = ["MaceQuantizer", "export_onnx", "prepare"]
