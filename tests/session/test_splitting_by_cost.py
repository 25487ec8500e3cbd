"""A policy splits a node over two devices where the prediction says that it pays, and says so."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mace_core import Session
from mace_core.graph import Graph, Node, Value
from mace_core.graph.attribute import Attribute, AttributeKind
from mace_core.policies import Policy
from mace_core.scheduler.costs.rates import Rates, WorkKind
from mace_core.scheduler.explain import Explanation
from mace_core.scheduler.placing.problem import Link
from mace_core.scheduler.planning import device_rates
from mace_core.scheduler.planning.policy import LATENCY, ORDER
from mace_core.tensor import DType, Tensor, TensorType

SHAPE = (1, 16, 20, 20)
BORDER = Link(1e-6, 1e-10)


def rates(second_per_mac: float) -> Rates:
    return Rates(1e-6, 1e-6, 1e-11, dict.fromkeys(WorkKind, second_per_mac), BORDER, BORDER)


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Rates]]:
    """Rates that nothing measured, by device."""
    monkeypatch.setenv("MACE_CACHE_DIR", str(tmp_path))
    found = {"cpu:0": rates(6e-9)}
    monkeypatch.setattr(device_rates, "rates_of", lambda device, open_graph: found.get(device.name))
    yield found


def network() -> Graph:
    """A convolution with an activation, large beside what is around it."""
    rng = np.random.default_rng(0)
    graph = Graph("one convolution")
    graph.opset_imports[""] = 17
    x, a, b, y = (Value(name, TensorType(DType.FLOAT32, SHAPE)) for name in ("x", "a", "b", "y"))
    weight = Value("w", constant=Tensor.from_numpy((rng.standard_normal((16, 16, 3, 3)) * 0.1).astype(np.float32)))
    bias = Value("c", constant=Tensor.from_numpy(rng.standard_normal(16).astype(np.float32)))
    graph.initializers = {"w": weight, "c": bias}
    graph.inputs, graph.outputs = [x], [y]
    pads = {"pads": Attribute(AttributeKind.INTS, (1, 1, 1, 1))}
    graph.nodes = [
        Node("Conv", [x, weight, bias], [a], name="conv", attributes=pads),
        Node("Relu", [a], [b], name="relu"),
        Node("Add", [b, x], [y], name="add"),
    ]
    return graph


X = np.random.default_rng(1).standard_normal(SHAPE, np.float32)


def explained(devices: list[str], policy: str | Policy) -> Explanation:
    with Session(network(), devices=["cpu"]) as plain:
        expected = plain.run({"x": X})["y"]
    with Session(network(), devices=devices, policy=policy) as session:
        np.testing.assert_allclose(session.run({"x": X})["y"], expected, rtol=1e-4, atol=1e-4)
        return session.explain()


def devices_of(found: Explanation) -> dict[str, str]:
    return {entry.node: entry.device for entry in found.nodes}


def test_two_devices_share_a_convolution_by_their_speed(known: dict[str, Rates]) -> None:
    known["acme:sim0"] = rates(2e-9)
    found = explained(["cpu", "acme:sim0"], "latency")
    where = devices_of(found)
    parts = {name: device for name, device in where.items() if name.startswith("conv/channels")}
    assert set(parts.values()) == {"cpu:0", "acme:sim0"}
    assert all(where[name.replace("conv", "relu")] == device for name, device in parts.items())
    (note,) = (choice for choice in found.choices if "is split" in choice)
    assert "'conv' is split: of its 16 output channels" in note
    assert "ms predicted" in note and "ms without" in note
    shares = {device: int(count) for count, device in re.findall(r"(\d+) on (\w+:\w+)", note)}
    assert sum(shares.values()) == 16
    assert 11 <= shares["acme:sim0"] <= 13  # three times as fast, but for what goes over the border


def test_the_prediction_with_parts_is_the_smaller_one_by_the_least_gain(known: dict[str, Rates]) -> None:
    known["acme:sim0"] = rates(6e-9)
    (note,) = (choice for choice in explained(["cpu", "acme:sim0"], "latency").choices if "is split" in choice)
    after, before = map(float, re.findall(r"([\d.]+) ms", note))
    assert after <= 0.95 * before


@pytest.mark.parametrize(
    ("devices", "policy", "other"),
    [
        (["cpu", "acme:sim0"], "order", 6e-9),  # nobody asked for it
        (["cpu", "acme:sim0"], "throughput", 6e-9),
        (["cpu", "acme:sim0"], dataclasses.replace(LATENCY, split=None), 6e-9),
        (["cpu", "acme:sim0"], dataclasses.replace(LATENCY, split=0.6), 6e-9),  # it saves less than that
        (["cpu", "acme:sim0"], "latency", 6e-7),  # too slow to be of help
        (["cpu", "opencl:0"], "latency", 6e-9),  # the stand-in works on the same cores
    ],
)
def test_where_it_does_not_pay_nothing_is_split(
    known: dict[str, Rates], devices: list[str], policy: str | Policy, other: float
) -> None:
    known[devices[1]] = rates(other)
    found = explained(devices, policy)
    assert not any("is split" in choice for choice in found.choices)
    assert {"conv", "relu", "add"} == set(devices_of(found))


def test_devices_that_are_named_in_order_may_be_asked_to_split(known: dict[str, Rates]) -> None:
    known["acme:sim0"] = rates(6e-9)
    with Session(network(), devices=["cpu", "acme:sim0"], policy=ORDER, pins={"conv": "cpu + acme:sim0"}) as session:
        assert "8 on cpu:0, 8 on acme:sim0, as pinned" in str(session.explain())
