"""Nodes whose numbers are enormous where the standard sets no bound: windows, strides, counts, sizes, depths."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from hostile.attributes import writer
from hostile.case import Case
from hostile.nodes import Base, one_node

HUGE = ((1 << 31) - 1, 1 << 40, (1 << 63) - 1)
LARGEST = (1 << 31) - 1


def _picture(*shape: int) -> Any:
    return np.ones(shape, np.float32)


PLANE, LINE, WHOLE = _picture(1, 2, 6, 6), _picture(1, 2, 6), np.arange(6)


def _bases() -> Iterator[Base]:
    yield from _pools()
    yield from _convolutions()
    yield from _grams()
    for huge in HUGE:
        yield from _sizes(huge)
    yield from _counts()


def _pools() -> Iterator[Base]:
    """Windows, pads and strides of pools."""
    for op in ("MaxPool", "AveragePool", "LpPool"):
        for auto in ("SAME_UPPER", "SAME_LOWER"):
            for x, rank in ((LINE, 1), (PLANE, 2)):
                window = {"kernel_shape": [LARGEST] * rank, "auto_pad": auto}
                yield one_node(op, {"x": x}, **window, opset=22, name=f"{auto}, {rank} axes")
                yield one_node(op, {"x": x}, **window, dilations=[LARGEST] * rank, opset=22, name=f"{auto} dilated")
        pads = {"kernel_shape": [LARGEST], "pads": [LARGEST - 1, LARGEST - 1], "strides": [LARGEST]}
        yield one_node(op, {"x": LINE}, **pads, opset=22, name="padded")
        yield one_node(op, {"x": LINE}, kernel_shape=[2], strides=[LARGEST], ceil_mode=1, opset=22, name="ceil")
    yield one_node("MaxPool", {"x": PLANE}, outputs=2, kernel_shape=[LARGEST] * 2, auto_pad="SAME_UPPER", opset=22)


def _convolutions() -> Iterator[Base]:
    """Strides and dilations."""
    weights = _picture(2, 2, 3, 3)
    for stride in (1 << 16, 1 << 20, LARGEST):
        for group, w in ((1, weights), (2, _picture(2, 1, 3, 3))):
            given = {"x": PLANE, "w": w}
            yield one_node("Conv", given, strides=[stride] * 2, group=group, opset=22, name=f"{stride} {group}")
            yield one_node(
                "Conv",
                {"x": _picture(1, 64, 9, 9), "w": _picture(64, 1, 3, 3)},
                strides=[stride] * 2,
                group=64,
                opset=22,
                name=f"by channel {stride}",
            )
            yield one_node("ConvTranspose", given, strides=[stride, 1], group=group, opset=22, name=f"{stride} {group}")
            yield one_node("ConvTranspose", given, strides=[stride] * 2, group=group, opset=22, name=f"{stride}^2")
            yield one_node(
                "ConvTranspose",
                {"x": _picture(1, 2, 1, 1), "w": w},
                strides=[stride] * 2,
                group=group,
                opset=22,
                name=f"one pixel {stride}",
            )
            yield one_node("ConvTranspose", given, output_shape=[stride, 6], group=group, opset=22, name=f"to {stride}")
            yield one_node(
                "ConvTranspose", given, dilations=[stride, 1], group=group, opset=22, name=f"dilated {stride}"
            )
        yield one_node(
            "ConvInteger",
            {"x": np.ones((1, 1, 5, 5), np.uint8), "w": np.ones((1, 1, 3, 3), np.uint8)},
            strides=[stride] * 2,
            opset=10,
            name=str(stride),
        )


def _grams() -> Iterator[Base]:
    """Lengths of n-grams, and what is skipped in them."""
    for skip in (1 << 20, LARGEST):
        grams = {"ngram_counts": [0, 1], "ngram_indexes": [0, 1], "pool_int64s": [1, 2, 3, 4], "mode": "TF"}
        yield one_node(
            "TfIdfVectorizer",
            {"x": WHOLE},
            **grams,
            min_gram_length=2,
            max_gram_length=2,
            max_skip_count=skip,
            opset=9,
            name=f"skips {skip}",
        )
        yield one_node(
            "TfIdfVectorizer",
            {"x": WHOLE},
            **grams,
            min_gram_length=1,
            max_gram_length=skip,
            max_skip_count=0,
            opset=9,
            name=f"grams {skip}",
        )


def _sizes(huge: int) -> Iterator[Base]:
    """Sizes, counts and places that inputs give."""
    size = np.array([huge])
    yield one_node("Expand", {"x": _picture(1), "s": size}, name=str(huge))
    yield one_node("ConstantOfShape", {"s": size}, name=str(huge))
    yield one_node("Tile", {"x": _picture(2), "s": size}, name=str(huge))
    yield one_node("Range", {"a": np.array(0), "b": np.array(huge), "c": np.array(1)}, name=str(huge))
    yield one_node("OneHot", {"x": WHOLE, "d": np.array(huge), "v": _picture(2)}, name=str(huge))
    yield one_node("Pad", {"x": LINE, "p": np.array([0, 0, 0, 0, 0, huge])}, name=str(huge))
    yield one_node("Pad", {"x": LINE, "p": np.array([0, 0, huge, 0, 0, 0])}, mode="wrap", name=f"wrap {huge}")
    yield one_node("HannWindow", {"s": np.array(huge)}, name=str(huge))
    yield one_node("DFT", {"x": _picture(1, 6, 1), "n": np.array(huge), "a": np.array(1)}, name=str(huge))
    yield one_node("TopK", {"x": LINE, "k": size}, outputs=2, name=str(huge))
    yield one_node("Trilu", {"x": PLANE, "k": np.array(huge)}, name=str(huge))
    yield one_node("CumSum", {"x": LINE, "a": np.array(huge)}, name=str(huge))
    yield one_node("Split", {"x": LINE, "s": size}, axis=2, name=str(huge))
    yield one_node("Col2Im", {"x": _picture(1, 4, 4), "i": np.array([huge, 4]), "b": np.array([2, 2])}, name=str(huge))
    yield one_node(
        "MaxUnpool",
        {"x": _picture(1, 1, 2, 2), "i": np.zeros((1, 1, 2, 2), np.int64), "s": np.array([1, 1, huge, 4])},
        kernel_shape=[2, 2],
        name=str(huge),
    )
    yield one_node("CenterCropPad", {"x": LINE, "s": np.array([1, 2, huge])}, name=str(huge))
    yield one_node("AffineGrid", {"t": _picture(1, 2, 3), "s": np.array([1, 1, huge, 4])}, name=str(huge))
    yield one_node("ReverseSequence", {"x": LINE[0], "s": np.full(6, huge)}, name=str(huge))
    yield one_node("SequenceAt", {"s": [LINE, LINE], "i": np.array(huge)}, name=str(huge))
    yield one_node("Gather", {"x": LINE, "i": np.array(huge)}, name=str(huge))
    yield one_node("Unsqueeze", {"x": LINE, "a": size}, name=str(huge))
    yield one_node("STFT", {"x": _picture(1, 64, 1), "s": np.array(huge), "w": _picture(8)}, name=str(huge))
    mel = {"c": np.array(8000), "d": np.array(0.0, np.float32), "e": np.array(4000.0, np.float32)}
    yield one_node("MelWeightMatrix", {"a": np.array(huge), "b": np.array(16), **mel}, name=f"bins {huge}")
    yield one_node("MelWeightMatrix", {"a": np.array(8), "b": np.array(huge), **mel}, name=f"lines {huge}")


def _counts() -> Iterator[Base]:
    """Scales, and sizes, counts and types that attributes give."""
    for scale in (1e9, 1e18, 3e38):
        yield one_node("Upsample", {"x": LINE, "s": np.array([1, 1, scale], np.float32)}, opset=9, name=f"{scale}")
    yield one_node(
        "RoiAlign",
        {"x": PLANE, "r": _picture(1, 4), "b": np.array([0])},
        output_height=LARGEST,
        output_width=1,
        name="high",
    )
    yield one_node(
        "RoiAlign",
        {"x": PLANE, "r": _picture(1, 4) * 1e9, "b": np.array([0])},
        output_height=2,
        output_width=2,
        name="far",
    )
    yield one_node("EyeLike", {"x": PLANE[0, 0]}, k=LARGEST)
    yield one_node("RandomNormal", {}, shape=[LARGEST], opset=22)
    yield one_node("Multinomial", {"x": LINE[0]}, sample_size=LARGEST, opset=22)
    yield one_node("LRN", {"x": PLANE}, size=LARGEST, opset=13)
    yield one_node(
        "Attention",
        {"q": _picture(1, 2, 8), "k": _picture(1, 2, 8), "v": _picture(1, 2, 8)},
        q_num_heads=LARGEST,
        kv_num_heads=LARGEST,
    )
    yield one_node("GroupNormalization", {"x": PLANE, "s": _picture(2), "b": _picture(2)}, num_groups=LARGEST)
    yield one_node("DepthToSpace", {"x": PLANE}, blocksize=LARGEST)
    yield one_node("SpaceToDepth", {"x": PLANE}, blocksize=LARGEST)
    yield one_node("Bernoulli", {"x": PLANE}, dtype=8, opset=22)
    for dtype in (8, 9, 14, 16, 17, 22, 23):
        for op in ("HannWindow", "HammingWindow", "BlackmanWindow"):
            yield one_node(op, {"s": np.array(8)}, output_datatype=dtype, name=f"type {dtype}")


def cases() -> Iterator[Case]:
    """All of them."""
    for base in _bases():
        yield Case("enormous", base.name, writer(base.model, base.feeds))
