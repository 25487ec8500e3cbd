"""The models in 8 bits: one file per model, which every engine that reads QDQ graphs is given."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.compare.catalogue import Feeds, PreparedModel

PRECISIONS = ("float32", "int8", "tflite", "tflite-int8")
"""``tflite``: the files of trained .tflite models as they are, for the engines that read them.  ``tflite-int8``: the
networks as LiteRT's own quantizer writes them."""

QUANTIZED = ("int8", "tflite-int8")
SAMPLES = 16
"""For calibration: enough for ranges, since speed and agreement are measured, not accuracy."""


def in_int8(prepared: PreparedModel, folder: Path) -> PreparedModel:
    """The same model as `mace quantize` makes it: 8-bit activations, 8-bit weights per channel, in QDQ form.

    Calibrated on what it is timed with, moved and dimmed.

    Raises:
        UsageError: if it has nothing to quantize.
    """
    import mace_core.quantization
    from mace_core.caching.build_id import build_id
    from mace_core.quantization import quantize

    recipe = hashlib.sha256(prepared.model.read_bytes() + Path(__file__).read_bytes())
    recipe.update(build_id(Path(mace_core.quantization.__file__).parent).encode())
    path = folder / f"{prepared.name}-int8-{recipe.hexdigest()[:12]}.onnx"
    if not path.exists():
        unfinished = path.with_name(f"unfinished-{os.getpid()}.onnx")
        with np.load(prepared.inputs) as stored:
            feeds = {name: stored[name] for name in stored.files}
        try:
            quantize(str(prepared.model), unfinished, data=lambda: variations(feeds), devices=["cpu"])
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
    return replace(prepared, model=path)


def variations(feeds: Feeds) -> Iterator[Feeds]:
    """The feeds, and others like them: rolled along the last axis; numbers with a fraction also made smaller."""
    for number in range(SAMPLES):
        moved = {name: np.roll(array, 7 * number, axis=-1) for name, array in feeds.items()}
        yield {
            name: array * array.dtype.type(1 - 0.04 * (number % 8)) if array.dtype.kind == "f" else array
            for name, array in moved.items()
        }
