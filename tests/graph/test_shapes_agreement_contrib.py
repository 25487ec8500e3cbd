"""Inputs of com.microsoft operators that contradict each other are refused; what exporters write is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import mace_core as mace
from mace_core.errors import ModelError

F, B = np.float32, np.uint8
Inputs = tuple[Any, ...]


def ones(*shape: int, dtype: Any = F) -> np.ndarray[Any, Any]:
    return np.ones(shape, dtype)


SCALED = (F(0.5), B(3))
GROUPED = {"num_heads": 2, "kv_num_heads": 1}
LSTM = (ones(5, 2, 3), ones(1, 3, 8, dtype=B), ones(1, 2, 8, dtype=B))

REFUSED: list[tuple[str, str, Inputs, dict[str, Any], str]] = [
    ("BiasGelu", "bias", (ones(2, 4), ones(3)), {}, r"bias must be \[4\]"),
    ("FastGelu", "no bias at all", (ones(2, 4), ones(0)), {}, r"bias must be \[4\]"),
    ("FastGelu", "bias that is longer", (ones(4), ones(8)), {}, r"bias must be \[4\]"),
    ("SkipLayerNormalization", "skip", (ones(1, 1, 2), ones(1, 2, 2), ones(2)), {}, "does not broadcast"),
    ("SkipLayerNormalization", "gamma", (ones(1, 1, 2), ones(1, 1, 2), ones(3)), {}, r"must be \[2\]"),
    ("SkipSimplifiedLayerNormalization", "gamma", (ones(1, 1, 2), ones(1, 1, 2), ones(0)), {}, r"must be \[2\]"),
    (
        "EmbedLayerNormalization",
        "tables",
        (ones(2, 3, dtype=np.int32), None, ones(4, 5), ones(4, 6), None, ones(5), ones(5)),
        {},
        "rows of 6 elements",
    ),
    ("QLinearAdd", "scale", (ones(2, dtype=B), ones(2), B(0), ones(2, dtype=B), *SCALED, *SCALED), {}, "a scale"),
    ("QLinearSigmoid", "zero", (ones(2, dtype=B), F(1), ones(2, dtype=B), *SCALED), {}, "a zero point"),
    ("QGemm", "C", (ones(2, 3, dtype=B), *SCALED, ones(3, 4, dtype=B), *SCALED, ones(5, dtype=np.int32)), {}, "C"),
    ("QGemm", "scale of B", (ones(2, 3, dtype=B), *SCALED, ones(3, 4, dtype=B), ones(3), B(0)), {}, "of B"),
    ("MatMulIntegerToFloat", "scale", (ones(2, 3, dtype=B), ones(3, 1, dtype=B), F(1), ones(2)), {}, "scale of B"),
    ("DynamicQuantizeMatMul", "scale", (ones(2, 3), ones(3, 1, dtype=B), ones(2)), {}, "scale of B"),
    ("DynamicQuantizeLSTM", "scale", (*LSTM, *[None] * 5, ones(2), ones(1, dtype=B)), {}, "scale of W"),
    ("DynamicQuantizeLSTM", "lengths", (*LSTM, None, ones(3, dtype=np.int32)), {}, "the lengths"),
    ("DynamicQuantizeLSTM", "bias", (*LSTM, ones(1, 8)), {}, "the bias"),
    (
        "MatMulNBits",
        "bytes",
        (ones(1, 32), ones(2, 1, 17, dtype=B), ones(2)),
        {"K": 32, "N": 2, "bits": 4, "block_size": 32},
        "32 elements, not 34",
    ),
    (
        "MatMulNBits",
        "zero points",
        (ones(1, 32), ones(2, 1, 16, dtype=B), ones(2), ones(3, dtype=B)),
        {"K": 32, "N": 2, "bits": 4, "block_size": 32},
        "2 elements, not 3",
    ),
    (
        "MatMulNBits",
        "float zero points",
        (ones(1, 32), ones(2, 1, 16, dtype=B), ones(2), ones(3)),
        {"K": 32, "N": 2, "bits": 4, "block_size": 32},
        "2 elements, not 3",
    ),
    (
        "MatMulNBits",
        "order of rows",
        (ones(1, 32), ones(2, 1, 16, dtype=B), ones(2), None, ones(31, dtype=np.int32)),
        {"K": 32, "N": 2, "bits": 4, "block_size": 32},
        r"\[32\], not \[31\]",
    ),
    (
        "GatherBlockQuantized",
        "scales",
        (ones(5, 16, dtype=B), ones(2, dtype=np.int64), ones(6, 1)),
        {"bits": 8, "block_size": 16},
        r"scales, one for each block, must be \[5, 1\]",
    ),
    (
        "RotaryEmbedding",
        "sines",
        (ones(2, 2, 3, 4), ones(1, dtype=np.int64), ones(6, 2), ones(6, 4)),
        {},
        r"sines, as the cosines, must be \[6, 2\]",
    ),
    (
        "GroupQueryAttention",
        "past",
        (ones(1, 2, 16), ones(1, 2, 8), ones(1, 2, 8), ones(1, 1, 3, 8), ones(1, 1, 0, 8), np.array([4], np.int32), 5),
        GROUPED,
        "past values",
    ),
    *(
        (
            "GroupQueryAttention",
            f"{given} alone",
            (ones(1, 2, 16), ones(1, 2, 8), ones(1, 2, 8), *pasts, np.array([4], np.int32), 5),
            GROUPED,
            "given together",
        )
        for given, pasts in (
            ("past keys", (ones(1, 1, 3, 8), None)),
            ("past values", (None, ones(1, 1, 3, 8))),
        )
    ),
]

COMPUTED: list[tuple[str, str, Inputs, dict[str, Any]]] = [
    ("BiasGelu", "bias", (ones(2, 4), ones(4)), {}),
    ("FastGelu", "without a bias", (F(1),), {}),
    ("SkipLayerNormalization", "one skip for all batches", (ones(3, 2, 4), ones(2, 4), ones(4)), {}),
    ("QLinearAdd", "lists of one", (ones(2, dtype=B), ones(1), B(0), ones(2, dtype=B), *SCALED, *SCALED), {}),
    ("QGemm", "columns", (ones(2, 3, dtype=B), *SCALED, ones(3, 4, dtype=B), ones(4), ones(4, dtype=B)), {}),
    ("MatMulIntegerToFloat", "columns", (ones(2, 3, dtype=B), ones(3, 4, dtype=B), ones(1), ones(4)), {}),
]


def run(op: str, arrays: Inputs, attributes: dict[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """Runs one node whose inputs have shapes that only the run tells."""
    given = {f"x{i}": np.asarray(array) for i, array in enumerate(arrays) if array is not None}
    if op == "GroupQueryAttention":
        given["x6"] = given["x6"].astype(np.int32)
    names = [f"x{i}" if array is not None else "" for i, array in enumerate(arrays)]
    node = helper.make_node(op, names, ["y"], domain="com.microsoft", name="n", **attributes)
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), [None] * array.ndim)
        for name, array in given.items()
    ]
    graph = helper.make_graph([node], "g", inputs, [helper.make_tensor_value_info("y", TensorProto.UNDEFINED, None)])
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=8)
    with mace.Session(model.SerializeToString(), devices=["cpu"], cache=False) as session:
        return dict(session.run(given))


@pytest.mark.parametrize(
    ("op", "arrays", "attributes", "message"),
    [pytest.param(op, arrays, more, message, id=f"{op}-{name}") for op, name, arrays, more, message in REFUSED],
)
def test_what_can_not_belong_together_is_refused_with_words(
    op: str, arrays: Inputs, attributes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        run(op, arrays, attributes)


@pytest.mark.parametrize(
    ("op", "arrays", "attributes"),
    [pytest.param(op, arrays, more, id=f"{op}-{name}") for op, name, arrays, more in COMPUTED],
)
def test_forms_that_exporters_write_are_computed(op: str, arrays: Inputs, attributes: dict[str, Any]) -> None:
    assert np.isfinite(run(op, arrays, attributes)["y"]).all()
