"""Kernels of all instruction sets touch no byte outside of their tensors, constants and scratch buffers.

Everything they work on ends at a page that nobody may touch, or begins behind one; runs are in processes of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from harness import here
from mace_cpu.memory_checks.guarded import guarded_buffers
from mace_cpu.shared.registry import LOWERINGS
from mace_testing.fuzzing.graphs import GRAPH
from mace_testing.fuzzing.registry import covered
from mace_testing.guarded_sweep import GuardedFindings, GuardedRuns, ModelTask, OperatorTask, Task, sweep
from onnx import TensorProto, helper, numpy_helper

from mace_core import Session
from mace_core.testing.guard_pages import GuardedMemory, Side, describe_address, guarded_copy, guarded_executions
from mace_core.testing.models import (
    LIGHT_MODELS,
    PP_OCR_CLS,
    PP_OCR_DET,
    PP_OCR_REC,
    efficientnet_b0,
    find_packaged_model,
    fsrcnn,
    light_model,
    mobilenet_v2,
    resnet50,
    sample_image,
    vit_tiny,
)

BUFFERS = "mace_cpu.memory_checks.guarded:guarded_buffers"
FEATURES = here("host", "avx2", "baseline")
SAMPLE = ("Add", "Compress", "Conv", "Gather", "MatMul")
LED_BY_NUMBERS = ("Gather", "GridSample", "MaxUnpool", "OneHot", "ReverseSequence", "ScatterND")
"""A sample of the operators that indices, lengths and places lead; the full tier tries all."""

NETWORKS: dict[str, Callable[[], onnx.ModelProto]] = {
    "mobilenet_v2": mobilenet_v2, "resnet50": resnet50, "efficientnet_b0": efficientnet_b0, "vit_tiny": vit_tiny,
    "fsrcnn": fsrcnn,
}  # fmt: skip

pytestmark = pytest.mark.skipif(not Path("/proc").exists(), reason="pages are guarded on Linux")


def runs(side: Side, features: str = "host", buffers: str = BUFFERS) -> GuardedRuns:
    options: dict[str, object] = {"threads": 2}
    return GuardedRuns("cpu:0", options if features == "host" else {**options, "features": features}, side, buffers)


def check(tasks: list[Task], given: GuardedRuns) -> list[GuardedFindings]:
    found = list(sweep(tasks, given))
    faults = [fault for each in found for fault in each.faults]
    assert not faults, "\n".join(faults)
    return found


@pytest.mark.parametrize("side", Side)
def test_memory_that_is_guarded(side: Side) -> None:
    array = np.arange(7, dtype=np.float32)
    found = guarded_copy(array, side, "it")
    np.testing.assert_array_equal(found, array)
    first = found.ctypes.data
    assert describe_address(first + 28) == "0 bytes behind the end of it (28 bytes)"
    assert describe_address(first - 1) == "1 bytes before the start of it (28 bytes)"
    assert (first + 28 if side is Side.END else first) % 4096 == 0


def test_what_is_written_into_the_gap_that_alignment_leaves_is_seen() -> None:
    memory = GuardedMemory(100, Side.END, alignment=64, label="it")
    assert memory.address % 64 == 0
    memory.bytes[:] = 0
    memory.check()
    np.ctypeslib.as_array((np.ctypeslib.ctypes.c_uint8 * 101).from_address(memory.address))[100] = 0
    with pytest.raises(AssertionError, match="1 bytes were written behind it"):
        memory.check()


def test_every_run_is_guarded() -> None:
    """The first one of a shape, those behind it, which take a shorter way, and those into memory of the caller."""
    info = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])
    node = helper.make_node("Neg", ["x"], ["y"])
    graph = helper.make_graph([node], "negative", [info], [onnx.ValueInfoProto(name="y")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10).SerializeToString()
    x, y = np.arange(5, dtype=np.float32), np.empty(5, np.float32)
    with guarded_executions(Side.END) as calls, Session(model, devices=["cpu"], cache=False) as session:
        for runs in range(1, 5):
            np.testing.assert_array_equal(session.run({"x": x})["y"], -x)
            assert calls.count == runs
        session.run({"x": x}, into={"y": y})
        session.run({"x": x[:3]})
        with session.bind(inputs={"x": x}, outputs={"y": y}) as bound:
            bound.run()
        assert calls.count == 7
    np.testing.assert_array_equal(y, -x)


@pytest.mark.parametrize("side", [Side.END, pytest.param(Side.START, marks=pytest.mark.full)])
def test_a_kernel_that_goes_one_byte_too_far_is_found(side: Side) -> None:
    info = helper.make_tensor_value_info("x", TensorProto.FLOAT, [5])
    node = helper.make_node("Identity", ["x"], ["y"])
    graph = helper.make_graph([node], "copy", [info], [onnx.ValueInfoProto(name="y")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    tasks: list[Task] = [ModelTask(name, model.SerializeToString(), {"x": np.ones(5, np.float32)}) for name in "ab"]
    found = list(sweep(tasks, runs(side, buffers="guard_faults:one_byte_outside")))
    where = {Side.END: "0 bytes behind the end of", Side.START: "1 bytes before the start of"}[side]
    assert [len(each.faults) for each in found] == [1, 1], "the worker is started again after the first"
    for each in found:
        assert "exit code -11" in each.faults[0] and where in each.faults[0], each.faults
    healthy = check(tasks, runs(side))
    assert [each.ran for each in healthy] == [1, 1]


def test_what_lies_at_guarded_addresses_is_not_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MACE_CACHE_DIR", str(tmp_path))
    info = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 5])
    weights = numpy_helper.from_array(np.arange(15, dtype=np.float32).reshape(5, 3), "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["v"]), helper.make_node("CumSum", ["v", "a"], ["y"])]
    axis = numpy_helper.from_array(np.array(1), "a")
    graph = helper.make_graph(nodes, "product", [info], [onnx.ValueInfoProto(name="y")], [weights, axis])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10).SerializeToString()
    x = np.ones((2, 5), np.float32)
    with guarded_buffers(Side.END), Session(model, devices=["cpu"]) as session:
        expected = session.run({"x": x})["y"]
    with Session(model, devices=["cpu"]) as session:
        np.testing.assert_array_equal(session.run({"x": x})["y"], expected)


def test_a_few_operators() -> None:
    found = check([OperatorTask(op, examples=3) for op in SAMPLE], runs(Side.END))
    assert all(each.ran for each in found), found


def test_random_graphs() -> None:
    """Several operators in one subgraph: fused, in layouts of their own, in scratch buffers."""
    (found,) = check([OperatorTask(GRAPH, examples=8)], runs(Side.END))
    assert found.ran == 8, found


def test_numbers_that_lead_outside() -> None:
    """Indices, lengths and places that are fed at run time are refused or clipped, whatever they are."""
    found = check([OperatorTask(op, examples=6, hostile=True) for op in LED_BY_NUMBERS], runs(Side.END))
    assert all(each.ran or each.refused for each in found), found


@pytest.mark.full
@pytest.mark.parametrize("hostile", [False, True], ids=["ordinary", "hostile"])
@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.timeout(7200)
def test_all_operators(features: str, side: Side, hostile: bool) -> None:
    LOWERINGS.load()
    every = [("", GRAPH), *sorted(covered())]
    tasks: list[Task] = [OperatorTask(op, domain, examples=25, hostile=hostile) for domain, op in every]
    found = check(tasks, runs(side, features))
    assert sum(each.ran + each.refused for each in found) > 20 * len(found)


@pytest.mark.full
@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.timeout(7200)
def test_models(features: str, side: Side, tmp_path: Path) -> None:
    found = check(model_tasks(tmp_path), runs(side, features))
    assert all(each.ran for each in found), found


def model_tasks(folder: Path) -> list[Task]:
    """Networks with seeded weights and trained models, each with one input."""
    tasks: list[Task] = []
    for name in (*NETWORKS, *LIGHT_MODELS):
        model = NETWORKS[name]() if name in NETWORKS else light_model(name)
        constants = {tensor.name for tensor in model.graph.initializer}
        (fed,) = [value for value in model.graph.input if value.name not in constants]
        path = folder / f"{name}.onnx"
        onnx.save(model, path)
        shape = tuple(dim.dim_value or 1 for dim in fed.type.tensor_type.shape.dim)
        tasks.append(ModelTask(name, str(path), {fed.name: sample_image(shape)}))
    for (package, file), size in ((PP_OCR_DET, (96, 160)), (PP_OCR_REC, (48, 100)), (PP_OCR_CLS, (48, 192))):
        tasks.append(ModelTask(file, str(find_packaged_model(package, file)), {"x": sample_image((1, 3, *size))}))
    return tasks
