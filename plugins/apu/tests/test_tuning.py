"""Hints for the library: each option arrives, a refusal is told and costs nothing else, stored networks know them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from apu_support import SHAPE, StandIn, open_backend, small_network
from mace_apu.neuron.constants import Result
from mace_apu.provider import ApuProvider

from mace_core.errors import UsageError
from mace_core.provider import Device
from mace_core.session import Session
from mace_core.testing.models import sample_image

FEEDS = {"x": sample_image(SHAPE)}


def run(device: Device, *, cache: bool = False, **options: object) -> tuple[np.ndarray, str]:
    """The result, and what the user is told about the device."""
    name = device.qualified_name
    with Session(small_network(), devices=[name], strict=True, cache=cache, options={"apu": options}) as session:
        (found,) = session.run(FEEDS).values()
        return found.copy(), "\n".join(session.explain().notes[name])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, ""),
        ({"priority": "low"}, "priority=90;"),
        ({"priority": "high"}, "priority=110;"),
        ({"optimization": "normal"}, "hint=0;"),
        ({"optimization": "low_latency+deep_fusion"}, "hint=3;"),
        ({"optimization": "batch"}, "hint=4;"),
        ({"compiler_options": "--opt 3"}, "string=--opt 3;"),
        ({"l1_memory": 128}, "string=--l1-size-kb=128;"),
        ({"l1_memory": "all", "compiler_options": "--opt 3"}, "string=--opt 3 --l1-size-kb=256;"),
        ({"creation_options": "--relax-fp32"}, "create=--relax-fp32;"),
    ],
)
def test_the_compilation_is_told(device: Device, stand_in: StandIn, options: dict[str, object], told: str) -> None:
    plain, _ = run(device)
    found, notes = run(device, **options)
    assert stand_in.options == told
    assert "has no effect" not in notes
    np.testing.assert_array_equal(found, plain)


def test_the_execution_is_told(device: Device, stand_in: StandIn) -> None:
    for options, boost in (
        ({"boost": 40}, 40),
        ({"performance": "boost"}, 100),
        ({"performance": "boost", "boost": 0}, 0),
    ):
        run(device, **options)
        assert stand_in.boost == boost


@pytest.mark.parametrize(
    ("function", "options"),
    [
        ("NeuronCompilation_setPreference", {"performance": "sustained"}),
        ("NeuronCompilation_setPriority", {"priority": "high"}),
        ("NeuronCompilation_setOptimizationHint", {"optimization": "batch"}),
        ("NeuronCompilation_setOptimizationString", {"compiler_options": "--opt 3"}),
        ("NeuronCompilation_setOptimizationString", {"l1_memory": 64}),
        ("Neuron_getL1MemorySizeKb", {"l1_memory": 64}),
        ("NeuronCompilation_createWithOptions", {"creation_options": "--opt 3"}),
        ("NeuronExecution_setBoostHint", {"boost": 10}),
    ],
)
def test_a_hint_that_the_library_refuses_is_told_and_left_out(
    device: Device, stand_in: StandIn, function: str, options: dict[str, object]
) -> None:
    plain, _ = run(device)
    (name,) = options
    before = stand_in.live
    with stand_in.failing(function, Result.BAD_DATA):
        found, notes = run(device, **options)
    assert f"the apu option '{name}' has no effect: {device.qualified_name}: the Neuron Adapter cannot " in notes
    assert notes.count("has no effect") == 1
    assert stand_in.live == before
    np.testing.assert_array_equal(found, plain)


def test_what_an_old_library_does_not_have_is_told(
    stand_in: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(stand_in.path, tmp_path)
    monkeypatch.setenv("MACE_NEURON_LIB_DIR", str(tmp_path))
    with StandIn(tmp_path).version(4, 1, 0):
        (device,) = ApuProvider().probe().devices
        _, notes = run(device, optimization="batch", compiler_options="-O", creation_options="-O", l1_memory=1, boost=5)
    for option, function, since in (
        ("optimization", "NeuronCompilation_setOptimizationHint", "4.3.0"),
        ("compiler_options", "NeuronCompilation_setOptimizationString", "4.6.0"),
        ("creation_options", "NeuronCompilation_createWithOptions", "7.0.0"),
        ("l1_memory", "Neuron_getL1MemorySizeKb", "4.3.0"),
    ):
        reason = f"the Neuron Adapter 4.1.0 has no {function}, which came with {since}"
        assert f"the apu option '{option}' has no effect: {reason}" in notes
    assert "runs wait for each other: the Neuron Adapter 4.1.0 has no events" in notes
    assert "'boost'" not in notes


def test_more_memory_than_there_is_is_told(device: Device, stand_in: StandIn) -> None:
    _, notes = run(device, l1_memory=1024)
    assert "the apu option 'l1_memory' asks for 1024 KiB, the APU has 256, which are used" in notes
    assert stand_in.options == "string=--l1-size-kb=256;"


def test_a_compiled_network_is_used_again_with_the_same_hints_only(
    device: Device, stand_in: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MACE_CACHE_DIR", str(tmp_path))
    run(device, cache=True, compiler_options="--opt 3")
    with stand_in.failing("NeuronCompilation_finish", Result.OP_FAILED):
        run(device, cache=True, compiler_options="--opt 3")
    keys = set()
    for options in ({}, {"priority": "low"}, {"optimization": "batch"}, {"l1_memory": 5}, {"compiler_options": "-O"},
                    {"creation_options": "-O"}, {"performance": "sustained"}, {"winograd": "off"}):  # fmt: skip
        backend = open_backend(device, **options)
        keys.add(backend.compatibility_key())
        backend.close()
    assert len(keys) == 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"priority": "highest"}, "'priority' is one of low, medium, high, not 'highest'"),
        ({"boost": 101}, "'boost' is a number from 0 to 100, not 101"),
        ({"boost": True}, "'boost' is a number from 0 to 100, not True"),
        ({"optimization": "fast"}, "or several joined by"),
        ({"optimization": "batch+"}, "or several joined by"),
        ({"l1_memory": -1}, "'l1_memory' is a number from 0 to 4294967295 or 'all', not -1"),
        ({"compiler_options": 3}, "'compiler_options' is text, not 3"),
        ({"creation_options": "a\0b"}, "'creation_options' is text"),
        ({"shared_memory": "on"}, "'shared_memory' is one of auto, off, not 'on'"),
    ],
)
def test_other_values_are_refused_in_a_sentence(device: Device, options: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=f"the apu option {message}" if message[0] == "'" else message):
        ApuProvider().open(device, options)
