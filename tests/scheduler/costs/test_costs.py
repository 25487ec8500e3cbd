"""What nodes cost: sizes, what follows what, integers; borders each way; power from the kernel's counters."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mace_core.graph import Graph, Node, Value
from mace_core.host.power import PackageMeter, battery_watts
from mace_core.scheduler.costs import measuring
from mace_core.scheduler.costs.cases import activated, convolution, quantized
from mace_core.scheduler.costs.measuring import RunsModel, measure_rates
from mace_core.scheduler.costs.rates import Rates, Work, WorkKind
from mace_core.scheduler.costs.work import works_of
from mace_core.tensor import DType, TensorType, ValueType


def type_of(value: Value) -> ValueType | None:
    if value.constant is not None:
        return TensorType(value.constant.dtype, value.constant.shape)
    return value.type


def test_time_follows_the_measured_sizes() -> None:
    curve = ((10**6, 1e-5), (10**8, 1e-4))
    rates = Rates(mac={WorkKind.MATMUL: 1e-12}, curves={WorkKind.MATMUL: curve})
    times = [rates.seconds(Work(WorkKind.MATMUL, macs, 0)) for macs in (10**5, 10**6, 10**7, 10**8, 10**9)]
    assert times == pytest.approx([1e-6, 1e-5, 10**-4.5, 1e-4, 1e-3])
    assert Rates.from_data(rates.as_data()) == rates


def test_a_device_without_rates_for_pointwise_convolutions_takes_those_of_others() -> None:
    rates = Rates(mac={WorkKind.CONVOLUTION: 1e-12, WorkKind.MATMUL: 1e-11})
    assert rates.seconds(Work(WorkKind.POINTWISE, 10**6, 0)) == pytest.approx(1e-6)
    assert rates.seconds(Work(WorkKind.INTEGER, 10**6, 0)) == pytest.approx(1e-5)  # the slowest that is there


def test_an_activation_follows_the_node_before_it() -> None:
    works = works_of(activated(8, 4, 2).graph.nodes, type_of)
    assert [(work.kind, work.follows) for work in works] == [(WorkKind.POINTWISE, False), (WorkKind.OTHER, True)] * 2


def test_an_activation_of_what_another_node_reads_too_does_not_follow() -> None:
    graph = convolution(8, 4, 3, 1, 1).graph
    made = graph.outputs[0]
    results = [Value(name, TensorType(DType.FLOAT32, (1, 8, 4, 4))) for name in ("r", "p")]
    graph.nodes += [Node("Relu", [made], [results[0]], name="r"), Node("MaxPool", [made], [results[1]], name="p")]
    assert [work.follows for work in works_of(graph.nodes, type_of)] == [False, False, False]


def test_what_is_fused_costs_its_share() -> None:
    alone, follows = Work(WorkKind.OTHER, 0, 1000), Work(WorkKind.OTHER, 0, 1000, follows=True)
    rates = Rates(node=1e-6, byte=1e-9, fused=0.25)
    assert rates.seconds(follows) == pytest.approx(rates.seconds(alone) / 4)


def test_nodes_between_dequantizations_and_quantizations_work_on_integers() -> None:
    case = quantized(8, 4, 3, 2)
    works = works_of(case.graph.nodes, type_of)
    assert [work.kind for work in works if work.macs] == [WorkKind.INTEGER] * 2
    for work in works:
        if work.macs:  # 8-bit tensors and weights
            assert work.nbytes == 2 * 8 * 16 + 8 * 8 * 9
        else:
            assert work.follows


class _Machine:
    """A device of known speed: time passes as its clock says."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def open(self, graph: Graph) -> AbstractContextManager[RunsModel]:
        machine = self

        class Runs:
            def run(self, feeds: Any) -> dict[str, np.ndarray[Any, Any]]:
                inputs = sum(array.nbytes for array in feeds.values())
                outputs = sum(value.type.dtype.nbytes(int(np.prod(value.type.shape))) for value in graph.outputs)  # type: ignore
                machine.now += 50e-6 + 10e-6 * len(feeds) + 2e-9 * inputs + 30e-6 * len(graph.outputs) + 7e-9 * outputs
                machine.now += 1e-6 * len(graph.nodes)
                return {}

        return nullcontext(Runs())


def test_each_direction_of_a_border_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = _Machine()
    monkeypatch.setattr(measuring, "time", machine)
    monkeypatch.setattr(measuring, "_CASES", {})
    rates = measure_rates(machine.open, has_own_memory=True)
    assert rates.to_device.seconds == pytest.approx(10e-6)
    assert rates.to_device.seconds_per_byte == pytest.approx(2e-9)
    assert rates.from_device.seconds == pytest.approx(30e-6)
    assert rates.from_device.seconds_per_byte == pytest.approx(7e-9)
    assert rates.launch == pytest.approx(50e-6, rel=0.05)  # the bytes of the smallest tensors
    assert rates.node == pytest.approx(1e-6)


def _counter(folder: Path, microjoules: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    (folder / "max_energy_range_uj").write_text("10000000\n")


def test_the_processors_energy_is_read_over_the_counters_end(tmp_path: Path) -> None:
    packages = tmp_path / "class" / "powercap"
    for name, before in (("intel-rapl:0", 9_000_000), ("intel-rapl:1", 0), ("intel-rapl:0:0", 0)):
        _counter(packages / name, before)
    meter = PackageMeter(tmp_path)
    first = meter.read()
    _counter(packages / "intel-rapl:0", 1_000_000)  # two joules later
    _counter(packages / "intel-rapl:1", 3_000_000)
    _counter(packages / "intel-rapl:0:0", 7_000_000)  # a part of the first
    second = meter.read()
    assert first is not None and second is not None
    assert meter.watts(first, second._replace(when=first.when + 2)) == pytest.approx(2.5)


def test_a_machine_without_counters_tells_no_power(tmp_path: Path) -> None:
    assert PackageMeter(tmp_path).read() is None
    assert battery_watts(tmp_path) is None


@pytest.mark.parametrize(("status", "watts"), [("Discharging", 12.5), ("Charging", None)])
def test_a_battery_tells_what_it_gives(tmp_path: Path, status: str, watts: float | None) -> None:
    battery = tmp_path / "class" / "power_supply" / "BAT0"
    battery.mkdir(parents=True)
    (battery / "type").write_text("Battery")
    (battery / "status").write_text(status)
    (battery / "current_now").write_text("1250000")
    (battery / "voltage_now").write_text("10000000")
    assert battery_watts(tmp_path) == watts
