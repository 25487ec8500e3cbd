"""Options of the compiler reach it and are part of the key of stored graphs; clocks are voted for."""

from __future__ import annotations

import ctypes as c
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hexagon_support import open_backend, small_network
from mace_hexagon import options as hexagon_options
from mace_hexagon.backend import HexagonBackend
from mace_hexagon.qnn import power
from mace_hexagon.qnn.types import POWER_DCVS_V3, PowerConfig

from mace_core.errors import UsageError
from mace_core.frontend.load import load_model
from mace_core.graph import GraphView
from mace_core.provider import Compatibility, Device
from mace_core.testing.models import sample_image
from mace_core.testing.network import NetworkBuilder
from mace_core.testing.runner import run_once, view_of

SHAPE = (1, 16, 112, 112)
PERFORMANCE = ("latency", "low_power", "sustained", "boost")


@pytest.fixture(scope="module")
def wide_view() -> GraphView:
    """Convolutions that do not fit into one megabyte of tightly coupled memory."""
    net = NetworkBuilder("wide", SHAPE, seed=3)
    x = net.relu6(net.conv("x", 16, 128, 3))
    x = net.op("Add", x, net.relu6(net.conv(x, 128, 128, 3)))
    model = net.build(net.classifier(net.op("GlobalAveragePool", x), 128, 10), (1, 10))
    return view_of(load_model(model), {"x": sample_image(SHAPE)})


def compiled_size(device: Device, view: GraphView, **options: object) -> int:
    """Bytes of the stored graph."""
    backend = open_backend(device, **options)
    compiled = backend.compile([view])
    blob = backend.serialize(compiled) or b""
    compiled[0].close()
    backend.close()
    return len(blob)


def test_optimization_and_memory_change_what_is_compiled(device: Device, wide_view: GraphView) -> None:
    usual = compiled_size(device, wide_view)
    assert compiled_size(device, wide_view, optimization_level=2) == pytest.approx(usual, abs=4096)  # QNN's own choice
    assert compiled_size(device, wide_view, optimization_level=1) != pytest.approx(usual, abs=4096)
    assert compiled_size(device, wide_view, vtcm_mb=1) > usual + 16384


@pytest.mark.parametrize(
    "option", [{"optimization_level": 3}, {"vtcm_mb": 2}, {"hvx_threads": 2}], ids=lambda o: next(iter(o))
)
def test_a_graph_stored_under_other_settings_is_not_used(device: Device, option: dict[str, object]) -> None:
    usual, other = open_backend(device), open_backend(device, **option)
    assert other.check_compatibility(other.compatibility_key()) is Compatibility.OPTIMAL
    assert other.check_compatibility(usual.compatibility_key()) is Compatibility.RECOMPILE
    usual.close()
    other.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimization_level": 4}, "'optimization_level' takes 1, 2 or 3, or 0 for QNN's own choice, not 4"),
        ({"optimization_level": "fast"}, "'optimization_level' takes .* not 'fast'"),
        ({"vtcm_mb": -1}, "'vtcm_mb' takes a number of megabytes, or 0 for all, not -1"),
        ({"hvx_threads": True}, "'hvx_threads' takes a number of threads"),
        ({"vtcm_mb": 1 << 40}, "'vtcm_mb' takes a number of megabytes"),
        ({"performance": "burst"}, "'performance' is one of latency, low_power, sustained, boost, not 'burst'"),
        ({"speed": 1}, "no option 'speed'; it knows precision, .*hvx_threads"),
    ],
)
def test_what_does_not_fit_is_one_sentence(device: Device, options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_backend(device, **options)


def test_performance_has_the_words_of_the_other_providers() -> None:
    apu = pytest.importorskip("mace_apu.options")
    assert hexagon_options.PERFORMANCE == apu.PERFORMANCE


Votes = list[tuple[str, tuple[int, ...]]]


@pytest.fixture
def votes(monkeypatch: pytest.MonkeyPatch) -> Votes:
    """What is asked of the library; it is asked all the same."""
    heard: Votes = []
    original = power.PowerVotes._find

    class Recorder:
        def __init__(self, functions: Any) -> None:
            self._functions = functions

        def create(self, *arguments: Any) -> int:
            heard.append(("create", ()))
            return int(self._functions.create(*arguments))

        def destroy(self, number: int) -> int:
            heard.append(("destroy", ()))
            return int(self._functions.destroy(number))

        def set(self, number: int, configs: c.Array[c.c_void_p]) -> int:
            config = PowerConfig.from_address(configs[0])
            assert configs[1] is None
            if config.option == POWER_DCVS_V3:
                words = tuple(config.words)
                assert words[0] == number
                heard.append(("clocks", words[1:]))
            return int(self._functions.set(number, configs))

    monkeypatch.setattr(power.PowerVotes, "_find", lambda self: Recorder(original(self)))
    return heard


@pytest.fixture(scope="module")
def small_view() -> GraphView:
    return view_of(load_model(small_network()), {"x": sample_image((1, 3, 20, 18))})


def run(backend: HexagonBackend, view: GraphView) -> None:
    (compiled,) = backend.compile([view])
    run_once(backend, view, compiled, {"x": sample_image((1, 3, 20, 18))})
    compiled.close()


def corners(votes: Votes) -> list[int]:
    """The core's target voltage in each vote for clocks."""
    return [words[13] for what, words in votes if what == "clocks"]


@pytest.mark.parametrize("performance", PERFORMANCE)
def test_the_emulation_takes_every_vote(device: Device, votes: Votes, performance: str) -> None:
    backend = open_backend(device, performance=performance)
    assert votes[0][0] == "create"
    backend.close()
    assert votes[-1][0] == "destroy"
    assert not any("refuses" in note for note in backend.notes)
    said = [note for note in backend.notes if performance in note]
    assert bool(said) == (performance != "latency")
    assert all("has no clocks" in note for note in said)


def test_clocks_are_raised_for_a_run_and_released_when_none_follows(
    device: Device, votes: Votes, small_view: GraphView, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(power, "IDLE_SECONDS", 0.05)
    backend = open_backend(device, performance="boost")
    votes.clear()
    run(backend, small_view)
    assert corners(votes) == [0xA0]
    until = time.monotonic() + 60
    while len(corners(votes)) < 2 and time.monotonic() < until:
        time.sleep(0.01)
    assert corners(votes) == [0xA0, 0x10]
    run(backend, small_view)
    assert corners(votes) == [0xA0, 0x10, 0xA0]
    backend.close()


def test_runs_that_follow_each_other_vote_once(
    device: Device, votes: Votes, small_view: GraphView, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(power, "IDLE_SECONDS", 600)
    backend = open_backend(device)
    votes.clear()
    for _ in range(3):
        run(backend, small_view)
    assert corners(votes) == [0x80]
    backend.close()


@pytest.mark.parametrize(("performance", "corner"), [("sustained", 0x80), ("low_power", 0x40)])
def test_some_votes_stand_as_long_as_the_device_is_open(
    device: Device, votes: Votes, small_view: GraphView, performance: str, corner: int
) -> None:
    backend = open_backend(device, performance=performance)
    run(backend, small_view)
    assert corners(votes) == [corner]
    assert not [thread for thread in threading.enumerate() if thread.name == "hexagon clocks"]
    backend.close()


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A library that takes no power settings."""
    original = power.PowerVotes._apply

    def apply(self: power.PowerVotes, vote: power.Vote) -> None:
        original(self, vote)
        self._took("power setting 3", 1000)

    monkeypatch.setattr(power.PowerVotes, "_apply", apply)
    yield


def test_a_refused_vote_is_told_and_nothing_fails(device: Device, refusing: None, small_view: GraphView) -> None:
    backend = open_backend(device, performance="boost")
    (note,) = backend.notes
    assert "performance=boost is not kept on hexagon:v75: the library refuses power setting 3" in note
    assert "NOT_SUPPORTED" in note
    run(backend, small_view)
    backend.close()
