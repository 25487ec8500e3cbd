"""Branches on the CPU and on another device at the same time, as a profiled run shows."""

from __future__ import annotations

import numpy as np
import pytest

from mace_core import Session
from mace_core.graph import Graph, Node, Value
from mace_core.graph.attribute import Attribute, AttributeKind
from mace_core.scheduler.profile import Profile
from mace_core.tensor import DType, Tensor, TensorType

# large enough that a branch of many takes several times as long as another thread takes to begin
SHAPE = (1, 64, 56, 56)


def convolutions(graph: Graph, value: Value, name: str, count: int) -> Value:
    rng = np.random.default_rng(len(graph.nodes))
    for number in range(count):
        weights = (rng.standard_normal((SHAPE[1], SHAPE[1], 3, 3)) / np.sqrt(SHAPE[1] * 9)).astype(np.float32)
        weight = Value(f"{name}_w{number}", constant=Tensor.from_numpy(weights))
        graph.initializers[weight.name] = weight
        result = Value(f"{name}{number}", TensorType(DType.FLOAT32, SHAPE))
        pads = {"pads": Attribute(AttributeKind.INTS, (1, 1, 1, 1))}
        graph.nodes.append(Node("Conv", [value, weight], [result], name=f"{name}_conv{number}", attributes=pads))
        value = result
    return value


def branches(near: int, far: int) -> Graph:
    """Convolutions in two branches, and their sum."""
    graph = Graph("branches")
    graph.opset_imports[""] = 17
    x, y = (Value(name, TensorType(DType.FLOAT32, SHAPE)) for name in ("x", "y"))
    graph.inputs, graph.outputs = [x], [y]
    ends = [convolutions(graph, x, "near", near), convolutions(graph, x, "far", far)]
    graph.nodes.append(Node("Add", ends, [y], name="join"))
    return graph


def overlap_ns(profile: Profile, first: str, second: str) -> int:
    """For how long both devices were at work."""
    spans = {
        device: [(s.start_ns, s.end_ns) for s in profile.spans if s.device == device] for device in (first, second)
    }
    return sum(max(0, min(b, d) - max(a, c)) for a, b in spans[first] for c, d in spans[second])


@pytest.mark.parametrize("device", ["opencl:0", "acme:sim0"])
def test_the_cpu_and_another_device_work_at_the_same_time(device: str) -> None:
    graph = branches(near=48, far=2)
    x = np.random.default_rng(1).standard_normal(SHAPE, np.float32)
    with Session(graph, devices=["cpu"]) as session:
        expected = session.run({"x": x})["y"]
    pins = {node.name: device for node in graph.nodes if node.name.startswith("far")}
    with Session(graph, devices=["cpu", device], pins=pins) as session:
        np.testing.assert_allclose(session.run({"x": x})["y"], expected, rtol=1e-3, atol=1e-4)
        # the machine may be busy with other things: in one of a few runs both get to work
        found = (overlap_ns(session.profile({"x": x}), "cpu:0", device) for _ in range(20))
        assert any(both > 0 for both in found)
