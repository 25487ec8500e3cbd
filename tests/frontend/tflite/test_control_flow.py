"""Branches, loops and calls, with state inside them, against LiteRT."""

from __future__ import annotations

import numpy as np
import pytest
from flatbuffers import flexbuffers
from lite_models import LiteGraph, LiteModel, assert_agree
from test_variables import handle, initialized

from mace_core.errors import ModelError
from mace_core.frontend.load import load_model
from mace_core.frontend.tflite import importer
from mace_core.testing.models import find_packaged_model


def test_a_branch_of_a_wake_word() -> None:
    """openWakeWord's 'hey jarvis' runs its second half only where the first is unsure."""
    model = find_packaged_model("pyopen-wakeword", "models/hey_jarvis.tflite")
    random = np.random.default_rng(0)
    runs = [{"x": scale * random.standard_normal((1, 16, 96)).astype(np.float32)} for scale in (0.1, 3, 10)]
    assert_agree(model, *runs)


def branching() -> LiteModel:
    """y = total += x if x > 0 in sum, else x * 2."""
    model = LiteModel()
    g = model.graph()
    x, y = g.input("x", (3,)), g.output("y", (3,))
    then, other = model.graph("then"), model.graph("else")
    start = initialized(model, np.float32([10, 10, 10]))
    g.op("CALL_ONCE", [], [], "CallOnceOptions", initSubgraphIndex=start)
    total, positive = g.tensor("total", ()), g.tensor("positive", (), "bool")
    g.op("SUM", [x, g.constant("axis", np.int32([0]))], [total], "ReducerOptions")
    g.op("GREATER", [total, g.constant("zero", np.float32(0))], [positive])
    g.op("IF", [positive, x], [y], "IfOptions", thenSubgraphIndex=1, elseSubgraphIndex=2)
    given, result = then.input("given", (3,)), then.output("result", (3,))
    held, before = handle(then), then.tensor("before", (3,))
    then.op("READ_VARIABLE", [held], [before])
    then.op("ADD", [before, given], [result], "AddOptions")
    then.op("ASSIGN_VARIABLE", [held, result], [])
    given, result = other.input("given", (3,)), other.output("result", (3,))
    other.op("ADD", [given, given], [result], "AddOptions")
    return model


def test_state_inside_a_branch() -> None:
    runs = [{"x": np.float32([1, 2, 3]) * sign} for sign in (1, -1, 1, 1, -1, 2)]
    results = assert_agree(branching().bytes(), *runs)
    assert np.array_equal(results[-1]["y"], [15, 20, 25])


def condition(g: LiteGraph, size: int) -> None:
    """i < 5."""
    i = g.input("i", (), "int32")
    g.input("v", (size,))
    g.op("LESS", [i, g.constant("five", np.int32(5))], [g.output("go", (), "bool")])


def body(g: LiteGraph, size: int) -> tuple[int, int, int]:
    """(i, v) -> (i + 1, v * 1.5 + i); what is returned are i, v and the second result."""
    i, v = g.input("i", (), "int32"), g.input("v", (size,))
    g.op("ADD", [i, g.constant("one", np.int32(1))], [g.output("next", (), "int32")], "AddOptions")
    scaled, number, result = g.tensor("scaled", (size,)), g.tensor("number", ()), g.output("result", (size,))
    g.op("MUL", [v, g.constant("factor", np.float32(1.5))], [scaled], "MulOptions")
    g.op("CAST", [i], [number], "CastOptions", inDataType=2, outDataType=0)
    g.op("ADD", [scaled, number], [result], "AddOptions")
    return i, v, result


def looping(*, stateful: bool) -> bytes:
    model = LiteModel()
    g = model.graph()
    i, v = g.input("i", (), "int32"), g.input("v", (3,))
    outputs = [g.output("turns", (), "int32"), g.output("y", (3,))]
    condition(model.graph("condition"), 3)
    inner = model.graph("body")
    _, before, _ = body(inner, 3)
    if stateful:
        start = initialized(model, np.float32([1, 0, -1]))
        g.op("CALL_ONCE", [], [], "CallOnceOptions", initSubgraphIndex=start)
        held, seen, sum_ = handle(inner), inner.tensor("seen", (3,)), inner.tensor("sum", (3,))
        inner.op("READ_VARIABLE", [held], [seen])
        inner.op("ADD", [seen, before], [sum_], "AddOptions")
        inner.op("ASSIGN_VARIABLE", [held, sum_], [])
    g.op("WHILE", [i, v], outputs, "WhileOptions", condSubgraphIndex=1, bodySubgraphIndex=2)
    if stateful:
        g.op("READ_VARIABLE", [handle(g)], [g.output("total", (3,))])
    return model.bytes()


@pytest.mark.parametrize("stateful", [False, True])
def test_a_loop(stateful: bool) -> None:
    """Some turns, and none at all; with a variable that the turns change."""
    runs = [{"i": np.int32(i), "v": np.float32([1, -2, 3])} for i in (0, 3, 7, 1)]
    assert_agree(looping(stateful=stateful), *runs)


def test_a_subgraph_that_calls_itself_is_refused() -> None:
    model = LiteModel()
    g = model.graph()
    x, y = g.input("x", (3,)), g.output("y", (3,))
    inner = model.graph("inner")
    given, result = inner.input("given", (3,)), inner.output("result", (3,))
    inner.op("STABLEHLO_COMPOSITE", [given], [result], "StableHLOCompositeOptions", decompositionSubgraphIndex=1)
    g.op("STABLEHLO_COMPOSITE", [x], [y], "StableHLOCompositeOptions", decompositionSubgraphIndex=1)
    with pytest.raises(ModelError, match="which it is part of: that would never end"):
        load_model(model.bytes())


def test_subgraphs_that_call_each_other_twice_are_refused_before_they_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importer, "MAX_OPERATORS", 1000)
    model = LiteModel()
    graphs = [model.graph(f"g{at}") for at in range(40)]
    for at, g in enumerate(graphs):
        x, y = g.input("x", (3,)), g.output("y", (3,))
        middle = g.tensor("middle", (3,))
        if at + 1 == len(graphs):
            g.op("ADD", [x, x], [y], "AddOptions")
            continue
        for given, result in ((x, middle), (middle, y)):
            g.op(
                "STABLEHLO_COMPOSITE", [given], [result], "StableHLOCompositeOptions", decompositionSubgraphIndex=at + 1
            )
    with pytest.raises(ModelError, match="more than 1,000 operators"):
        load_model(model.bytes())


def test_what_a_composite_consists_of_is_run() -> None:
    model = LiteModel()
    g = model.graph()
    x, y = g.input("x", (3,)), g.output("y", (3,))
    inner = model.graph("inner")
    given, result = inner.input("given", (3,)), inner.output("result", (3,))
    inner.op("MUL", [given, given], [result], "MulOptions")
    g.op(
        "STABLEHLO_COMPOSITE",
        [x],
        [y],
        "StableHLOCompositeOptions",
        decompositionSubgraphIndex=1,
        name=b"odd.square",
        compositeAttributes=list(flexbuffers.Dumps({"a": 1})),
    )
    assert_agree(model.bytes(), {"x": np.float32([1, 2, 3])})
