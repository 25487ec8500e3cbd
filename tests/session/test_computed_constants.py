"""Constants too large to be folded: computed once in a session, wherever they stand, and packed like any weight."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import helper
from scheduler_models import BOOL, FLOAT, INT64, constant, model, op, tensor

from mace_core.errors import MaceError
from mace_core.optimizer import deferred
from mace_core.session import Session

SIDE = 800
"""Of a square matrix of so many elements that nothing large is made of it while a model is loaded."""

BATCH = 3
FORMS = ("int8", "float16", "quantized", "per column", "tied")
PLACES = ("outside", "inside", "apart")
BODIES = ("none", "If", "Loop", "Scan", "nested")

AT_RUN = {"Cast", "Mul", "Add", "Transpose", "DequantizeLinear", "Pack"}
"""Steps that would make or pack the weights."""


def stored_weights(form: str) -> tuple[list[onnx.TensorProto], list[onnx.NodeProto]]:
    """The constants, and the nodes that make the matrix ``w`` of floats of them."""
    random = np.random.default_rng(7)
    whole = random.integers(-100, 100, (SIDE, SIDE), np.int8)
    if form == "float16":
        halves = (whole / np.float32(90 * SIDE)).astype(np.float16)
        return [constant("stored", halves)], [op("Cast", ["stored"], ["w"], to=FLOAT)]
    scale = constant("scale", np.float32(1 / (90 * SIDE)))
    if form == "quantized":
        zero = constant("zero", np.int8(3))
        return [constant("stored", whole), scale, zero], [op("DequantizeLinear", ["stored", "scale", "zero"], ["w"])]
    if form == "per column":
        scales = constant("scale", np.linspace(1, 2, SIDE, dtype=np.float32) / (90 * SIDE))
        return [constant("stored", whole), scales], [op("DequantizeLinear", ["stored", "scale"], ["w"], axis=1)]
    nodes = [
        op("Cast", ["stored"], ["wide"], to=FLOAT),
        op("Mul", ["wide", "scale"], ["scaled"]),
        op("Add", ["scaled", "offset"], ["w" if form == "int8" else "added"]),
    ]
    if form == "tied":
        nodes.append(op("Transpose", ["added"], ["w"], perm=[1, 0]))
    return [constant("stored", whole), scale, constant("offset", np.float32(1e-6))], nodes


def network(form: str, place: str, body: str) -> onnx.ModelProto:
    """Products of ``x`` with the weights in a body, whose nodes stand outside, inside, or on either side."""
    constants, making = stored_weights(form)
    cut = {"outside": len(making), "inside": 0, "apart": len(making) - 1}[place]
    outside, inside = making[:cut], [*making[cut:], op("MatMul", ["a", "w"], ["product"])]
    x, y = tensor("x", ["n", SIDE]), tensor("y", None)
    result = tensor("result", ["n", SIDE])
    if body == "none":
        nodes = [*outside, op("Identity", ["x"], ["a"]), *inside, op("Relu", ["product"], ["y"])]
        return model(nodes, [x], [y], constants)
    if body == "If":
        flag = tensor("flag", [], BOOL)
        nodes = [*outside, branches("flag", "x", inside, "y")]
        return model(nodes, [x, flag], [y], constants)
    if body == "Scan":
        turn = [*inside, op("Relu", ["product"], ["result"])]
        graph = helper.make_graph(turn, "turn", [tensor("a", [SIDE])], [tensor("result", [SIDE])])
        return model([*outside, op("Scan", ["x"], ["y"], body=graph, num_scan_inputs=1)], [x], [y], constants)
    if body == "Loop":
        turn = [op("Identity", ["go"], ["goes"]), *inside, op("Relu", ["product"], ["result"])]
    else:
        turn = [op("Identity", ["go"], ["goes"]), branches("go", "b", inside, "result")]
    state = tensor("b" if body == "nested" else "a", ["n", SIDE])
    graph = helper.make_graph(
        turn, "turn", [tensor("i", [], INT64), tensor("go", [], BOOL), state], [tensor("goes", [], BOOL), result]
    )
    turns = constant("turns", np.int64(4))
    return model([*outside, op("Loop", ["turns", "", "x"], ["y"], body=graph)], [x], [y], [*constants, turns])


def branches(flag: str, read: str, inside: list[onnx.NodeProto], output: str) -> onnx.NodeProto:
    """The product where ``flag`` is true, else what is read."""
    then = helper.make_graph(
        [op("Identity", [read], ["a"]), *inside, op("Relu", ["product"], ["taken"])],
        "then",
        [],
        [tensor("taken", None)],
    )
    otherwise = helper.make_graph([op("Neg", [read], ["passed"])], "else", [], [tensor("passed", None)])
    return op("If", [flag], [output], then_branch=then, else_branch=otherwise)


def feeds_of(built: onnx.ModelProto, rows: int = BATCH) -> dict[str, Any]:
    random = np.random.default_rng(rows)
    feeds: dict[str, Any] = {"x": random.standard_normal((rows, SIDE)).astype(np.float32)}
    if any(value.name == "flag" for value in built.graph.input):
        feeds["flag"] = np.array(True)
    return feeds


def expected(built: onnx.ModelProto, feeds: Mapping[str, Any]) -> npt.NDArray[Any]:
    options = onnxruntime.SessionOptions()  # it would round what quantized weights are multiplied by
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(built.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found: npt.NDArray[Any] = session.run(None, dict(feeds))[0]
    return found


def computed(session: Session) -> int:
    """How many constants a session has computed so far."""
    return 0 if session._constants is None else session._constants.count


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("form", FORMS)
def test_weights_are_made_and_packed_once_wherever_they_stand(form: str, place: str, body: str) -> None:
    built = network(form, place, body)
    with Session(built, devices=["cpu"], cache=False) as session:
        for rows in range(BATCH, BATCH + 5):
            feeds = feeds_of(built, rows)
            np.testing.assert_allclose(session.run(feeds)["y"], expected(built, feeds), rtol=2e-4, atol=1e-5)
        made = computed(session)
        profile = session.profile(feeds_of(built, BATCH + 9))
        steps = {part for span in profile.spans for part in span.name.split("+")}
        assert not AT_RUN & steps
        assert computed(session) == made <= 4  # by the plan of the first shape, and by the one that serves all


def test_both_branches_share_what_they_make_of_the_same_constants() -> None:
    constants, making = stored_weights("tied")
    names = {"taken": "then", "passed": "else"}
    bodies = {}
    for output, name in names.items():
        inside = [onnx.NodeProto.FromString(node.SerializeToString()) for node in making[3:]]
        for node in inside:
            node.name, node.output[0] = f"{name} {node.name}", f"w {name}"
        product = op("MatMul", ["x", f"w {name}"], [output])
        bodies[name] = helper.make_graph([*inside, product], name, [], [tensor(output, None)])
    choice = op("If", ["flag"], ["y"], then_branch=bodies["then"], else_branch=bodies["else"])
    looked_up = op("Gather", ["added", "place"], ["row"])
    inputs = [tensor("x", [2, SIDE]), tensor("flag", [], BOOL), tensor("place", [1], INT64)]
    outputs = [tensor("y", None), tensor("row", [1, SIDE])]
    built = model([*making[:3], looked_up, choice], inputs, outputs, constants)
    with Session(built, devices=["cpu"], cache=False) as session:
        assert len(session._graph.computed) == 2  # what is looked up, and its transposed form
        for flag in (True, False):
            feeds = {"x": np.ones((2, SIDE), np.float32), "flag": np.array(flag), "place": np.array([7])}
            found = session.run(feeds)
            np.testing.assert_allclose(found["y"], expected(built, feeds), rtol=2e-4, atol=1e-5)
            assert np.abs(found["row"]).max() > 0


def test_a_later_process_maps_what_was_packed_and_computes_nothing(tmp_path: Path) -> None:
    built = network("int8", "outside", "If")
    path = tmp_path / "model.onnx"
    onnx.save(built, path)
    program = (
        "import sys, numpy as np\nfrom mace_core.session import Session\n"
        "with Session(sys.argv[1], devices=['cpu']) as session:\n"
        f"    session.run({{'x': np.ones(({BATCH}, {SIDE}), np.float32), 'flag': np.array(True)}})\n"
        "    print(session._constants.count, all(p.restored for p in session._model.preparations))\n"
    )
    said = [
        subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert said == ["1 False\n", "0 True\n"]


def test_threads_that_come_at_once_compute_it_once() -> None:
    built = network("int8", "outside", "If")
    with Session(built, devices=["cpu"], cache=False) as session:
        feeds = feeds_of(built)
        found: list[Any] = []
        threads = [threading.Thread(target=lambda: found.append(session.run(feeds)["y"])) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 6
        assert all(np.array_equal(found[0], other) for other in found)
        assert computed(session) == 1


def test_nothing_is_kept_that_a_provider_has_in_its_own_form() -> None:
    with Session(network("int8", "outside", "If"), devices=["cpu"], cache=False) as session:
        session.run(feeds_of(network("int8", "outside", "If")))
        assert session._constants is not None
        assert session._constants.held_bytes == 0


@pytest.mark.parametrize("device", ["cpu", "reference"])
def test_a_constant_that_cannot_be_computed_fails_where_it_is_needed(device: str) -> None:
    """In the branch that needs it, with the words of a run, and not in the other one."""
    table = np.ones((SIDE, SIDE), np.float32)
    places = np.full(2 * SIDE, SIDE + 5)
    then = helper.make_graph([op("Gather", ["table", "places"], ["taken"])], "then", [], [tensor("taken", None)])
    otherwise = helper.make_graph([op("Neg", ["x"], ["passed"])], "else", [], [tensor("passed", None)])
    choice = op("If", ["flag"], ["y"], then_branch=then, else_branch=otherwise)
    inputs = [tensor("x", ["n"]), tensor("flag", [], BOOL)]
    built = model([choice], inputs, [tensor("y", None)], [constant("table", table), constant("places", places)])
    with Session(built, devices=[device], cache=False) as session:
        feeds = {"x": np.ones(3, np.float32), "flag": np.array(True)}
        for _ in range(2):
            with pytest.raises(MaceError, match="Gather"):
                session.run(feeds)
        assert session.run({**feeds, "flag": np.array(False)})["y"].tolist() == [-1, -1, -1]


def test_what_there_is_no_room_for_is_made_by_each_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deferred, "MOST_BYTES", 4 * SIDE * SIDE - 1)
    built = network("int8", "outside", "If")
    with Session(built, devices=["cpu"], cache=False) as session:
        assert session._constants is None
        feeds = feeds_of(built)
        np.testing.assert_allclose(session.run(feeds)["y"], expected(built, feeds), rtol=2e-4, atol=1e-5)


def test_nodes_that_are_pinned_or_looked_at_run_as_nodes(caplog: pytest.LogCaptureFixture) -> None:
    built = network("int8", "outside", "none")
    caplog.set_level(logging.INFO, "mace")
    feeds = feeds_of(built)
    with Session(built, devices=["cpu"], cache=False, pins={"Cast": "reference"}) as session:
        session.run(feeds)
        assert session.explain().pinned == {"reference:0": 1}
    with Session(built, devices=["cpu"], cache=False, check_numerics=True) as session:
        session.run(feeds)
        assert "Cast_wide" in {entry.node for entry in session.explain().nodes}


def test_explanations_tell_what_is_computed_once() -> None:
    with Session(network("int8", "outside", "If"), devices=["cpu"], cache=False) as session:
        session.run(feeds_of(network("int8", "outside", "If")))
        found = session.explain()
        assert found.computed == ["Cast_wide", "Mul_scaled", "Add_w"]
        assert "  3 nodes run once in a session: they depend on constants alone" in found.summary_lines()
