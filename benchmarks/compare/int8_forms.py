"""The same network in the 8-bit forms of engines that read no QDQ graphs, made by their own rules from the float one.

Calibrated on the same inputs as the QDQ file.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.compare.catalogue import Feeds, PreparedModel
from benchmarks.compare.convert import NotConvertibleError, call_mnn
from benchmarks.compare.precision import variations


def write_ncnn_int8(prepared: PreparedModel, floats: Path, target: Path) -> None:
    """A folder as for float32, with weights and activations in 8 bits."""
    from benchmarks.compare.ncnn_int8 import quantize_ncnn

    target.mkdir()
    quantize_ncnn(floats, variations(_feeds(prepared)), target)


def write_mnn_int8(prepared: PreparedModel, floats: Path, target: Path) -> None:
    """What mnnquant makes of it: ranges that minimize the divergence (KL), weights per channel."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, sample in enumerate(variations(_feeds(prepared))):
            _write_mnn_sample(sample, prepared.outputs, folder / "samples" / f"{number:02}")
        settings = {
            "path": f"{folder / 'samples'}/",
            "input_type": "sequence",
            "feature_quantize_method": "KL",
            "weight_quantize_method": "MAX_ABS",
            "feature_clamp_value": 127,
            "weight_clamp_value": 127,
            "batch_size": 1,
            "quant_bits": 8,
        }
        (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
        product = folder / "quantized.mnn"  # it writes scales beside it
        call_mnn("mnnquant", [str(floats), str(product), str(folder / "settings.json")], folder, product)
        shutil.move(product, target)


def write_tflite_int8(prepared: PreparedModel, floats: Path, target: Path) -> None:
    """What LiteRT's quantizer makes of it: 8 bits for all that has such kernels, inputs and outputs in float."""
    try:
        from litert_quantizer import qtyping, quantizer, recipe
    except ImportError:
        raise NotConvertibleError("its quantizer is not installed: 'pip install litert-quantizer' brings it") from None
    from benchmarks.compare.tflite import SIGNATURE

    quantizing = quantizer.Quantizer(str(floats))
    quantizing.load_quantization_recipe(recipe.static_wi8_ai8())
    for border in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
        quantizing.update_quantization_recipe(".*", border, algorithm_key="no_quantize")
    samples = [
        {name: np.ascontiguousarray(a.transpose(0, 2, 3, 1) if a.ndim == 4 else a) for name, a in sample.items()}
        for sample in variations(_feeds(prepared))
    ]
    quantizing.quantize(quantizing.calibrate({SIGNATURE: samples})).export_model(str(target))


def _feeds(prepared: PreparedModel) -> Feeds:
    with np.load(prepared.inputs) as stored:
        return {name: stored[name] for name in stored.files}


def _write_mnn_sample(sample: Feeds, outputs: tuple[str, ...], folder: Path) -> None:
    """A folder with the numbers of each input as text, and their shapes."""
    folder.mkdir(parents=True)
    for name, array in sample.items():
        np.savetxt(folder / f"{name}.txt", array.reshape(-1, 1), fmt="%d" if array.dtype.kind in "iu" else "%.9g")
    inputs = [{"name": name, "shape": list(array.shape)} for name, array in sample.items()]
    (folder / "input.json").write_text(json.dumps({"inputs": inputs, "outputs": list(outputs)}), encoding="utf-8")
