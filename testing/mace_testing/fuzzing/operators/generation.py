"""Operators that make values from little: ranges, constants, windows, filter banks."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx.helper

from mace_testing.fuzzing import schema
from mace_testing.fuzzing.case import OpCase
from mace_testing.fuzzing.registry import draws
from mace_testing.fuzzing.source import Source


@draws("Range")
def span(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    dtype = source.dtype(op, opset)
    step = source.pick([1, 2, 3, -1, -2] if dtype.kind == "i" else [1, 0.5, 0.25, -1, -0.5])
    values = [source.integer(-6, 6), source.integer(-6, 12), step]
    return OpCase(op, opset, tuple(np.array(value, dtype) for value in values))


@draws("Constant")
def constant(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    dtype = np.dtype(source.pick(schema.dtypes(op, opset, output=True)))
    if opset >= 12 and source.flag():
        attributes: dict[str, Any] = source.pick(
            [{"value_float": 1.5}, {"value_floats": [0.5, -1.0]}, {"value_int": -3}, {"value_ints": [4, 5, 6]}]
        )
        return OpCase(op, opset, (), attributes)
    return OpCase(op, opset, (), {"value": source.array(source.shape(), dtype)})


@draws("ConstantOfShape")
def filled(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    attributes = {}
    if source.flag():
        dtype = np.dtype(source.pick(schema.dtypes(op, opset, output=True)))
        attributes["value"] = source.array((1,), dtype)
    return OpCase(op, opset, (np.array(source.shape(0, 3), np.int64),), attributes)


@draws("HannWindow", "HammingWindow", "BlackmanWindow")
def window(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    attributes: dict[str, Any] = {"periodic": int(source.flag())} if source.flag() else {}
    if source.flag():
        dtype = np.dtype(source.pick([np.float32, np.float64, np.float16]))
        attributes["output_datatype"] = int(onnx.helper.np_dtype_to_tensor_dtype(dtype))
    size = np.array(source.integer(2, 20), source.pick([np.int64, np.int32]))
    return OpCase(op, opset, (size,), attributes, tolerance=1e-4)


@draws("MelWeightMatrix")
def mel(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    rate = source.pick([8000, 16000, 8192])
    inputs = (
        np.array(source.integer(2, 12), np.int64),
        np.array(source.pick([64, 128, 256]), np.int64),
        np.array(rate, np.int64),
        np.array(source.pick([0.0, 20.0, 125.0]), np.float32),
        np.array(source.pick([rate / 2, rate / 4]), np.float32),
    )
    return OpCase(op, opset, inputs, constants=frozenset(range(5)) if source.flag() else frozenset())


@draws("TfIdfVectorizer")
def term_frequency(source: Source, op: str) -> OpCase:
    opset = source.opset(op)
    x = source.array(source.shape(1, 2, empty=False), source.pick([np.int32, np.int64]), 0, 3)
    shortest = source.integer(1, 2)
    attributes: dict[str, Any] = {
        "mode": source.pick(["TF", "IDF", "TFIDF"]),
        "min_gram_length": shortest,
        "max_gram_length": 2,
        "max_skip_count": source.integer(0, 2),
        "ngram_counts": [0, 3],
        "ngram_indexes": [0, 1, 2, 3, 4],
        "pool_int64s": [0, 2, 3, 0, 1, 2, 2],
    }
    if source.flag():
        attributes["weights"] = [0.5, 1.0, 2.0, 1.5, 0.25]
    return OpCase(op, opset, (x,), attributes)
