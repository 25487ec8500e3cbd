"""Parts at places that a run computes, loops of StableHLO, shifts, and elements apart."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from lite_models import LiteModel, assert_agree, mace_results

from mace_core.frontend.tflite.registry import converted_operators


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32"])
def test_numbers_are_shifted_to_the_left(dtype: str) -> None:
    model = LiteModel()
    g = model.graph()
    numbers = [g.input(name, (6,), dtype) for name in "ab"]
    g.op("STABLEHLO_SHIFT_LEFT", numbers, [g.output("y", (6,), dtype)])
    a, b = np.array([1, -3, 127, -128, 0, 77], dtype), np.array([0, 1, 1, 1, 5, 2], dtype)
    (found,) = assert_agree(model.bytes(), {"a": a, "b": b})
    assert np.array_equal(found["y"], (a.astype(np.int64) << b).astype(dtype))


@pytest.mark.parametrize("steps", [(2, 3, 1), (1, 1, 1), (4, 1, 2)])
def test_elements_are_put_apart(steps: tuple[int, ...]) -> None:
    model = LiteModel()
    g = model.graph()
    shape = tuple((size - 1) * step + 1 for size, step in zip((2, 3, 4), steps, strict=True))
    inputs = [g.input("x", (2, 3, 4)), g.constant("steps", steps, "int32"), g.constant("fill", np.float32(-7))]
    g.op("DILATE", inputs, [g.output("y", shape)], "DilateOptions")
    assert_agree(model.bytes(), {"x": np.arange(24, dtype=np.float32).reshape(2, 3, 4)})


def test_a_part_is_cut_and_put_where_a_run_says() -> None:
    model = LiteModel()
    g = model.graph()
    x, part = g.input("x", (4, 5)), g.input("part", (2, 3))
    places = [g.input(name, (), "int32") for name in ("row", "column")]
    g.op("STABLEHLO_DYNAMIC_SLICE", [x, *places], [g.output("cut", (2, 3))], "StablehloDynamicSliceOptions",
         sliceSizes=[2, 3])  # fmt: skip
    g.op("STABLEHLO_DYNAMIC_UPDATE_SLICE", [x, part, *places], [g.output("put", (4, 5))])
    whole, new = np.arange(20, dtype=np.float32).reshape(4, 5), -np.ones((2, 3), np.float32)
    for (row, column), (top, left) in {(1, 2): (1, 2), (9, -4): (2, 0), (0, 3): (0, 2)}.items():  # moved inside
        feeds = {"x": whole, "part": new, "row": np.array(row, np.int32), "column": np.array(column, np.int32)}
        (found,) = mace_results(model.bytes(), feeds)
        expected = whole.copy()
        assert np.array_equal(found["cut"], expected[top : top + 2, left : left + 3])
        expected[top : top + 2, left : left + 3] = new
        assert np.array_equal(found["put"], expected)


def test_a_loop_of_stablehlo_turns_while_its_condition_holds() -> None:
    model = LiteModel()
    g, test, body = model.graph(), model.graph("test"), model.graph("body")
    x = g.input("x", (3,))
    g.op("STABLEHLO_WHILE", [x], [g.output("y", (3,))], "StablehloWhileOptions", condSubgraphIndex=1,
         bodySubgraphIndex=2)  # fmt: skip
    seen, total = test.input("s", (3,)), test.tensor("total", ())
    test.op("SUM", [seen, test.constant("axes", [0], "int32")], [total], "ReducerOptions")
    test.op("LESS", [total, test.constant("limit", np.float32(100))], [test.output("more", (), "bool")], "LessOptions")
    given = body.input("g", (3,))
    body.op("ADD", [given, given], [body.output("twice", (3,))], "AddOptions")
    (found,) = mace_results(model.bytes(), {"x": np.float32([1, 2, 3])})
    assert found["y"].tolist() == [32, 64, 96]


def test_the_page_names_the_builtins_that_are_not_known() -> None:
    every = {name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}
    page = (Path(__file__).parents[3] / "docs" / "users" / "tflite.md").read_text()
    table = page[page.index("| builtin | why not |") : page.index("An operator that MACE does not know")]
    named = set(re.findall(r"\b[A-Z][A-Z0-9_]{3,}\b", table)) & every
    assert named - set(converted_operators()) == every - set(converted_operators()) - {"CUSTOM"}
