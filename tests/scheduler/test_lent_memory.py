"""What one device computed is read by another where it is, if both can address that memory."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scheduler_models import chain, model, op, tensor
from scheduler_stand_ins import StandInBackend, make_provider, registry_of

from mace_core import Session
from mace_core.errors import ProviderError
from mace_core.faults import FaultLimits
from mace_core.provider import ApiVersion, ForeignKind
from mace_core.scheduler.planning import lent
from mace_core.tensor import MemoryKind

IMPORTING = {
    "memory": MemoryKind.DEVICE,
    "imports": frozenset({ForeignKind.HOST}),
    "api_version": ApiVersion(1, 3),
}
"""A device that imports host memory, of a provider that knows of what others computed."""

X = np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32)
LARGE = (np.random.default_rng(1).integers(-32, 33, (256, 512)) / 8).astype(np.float32)  # 512 KiB, exact in float16


def large_chain(*ops: str) -> Any:
    """Element-wise operators, one after the other, on `LARGE`."""
    names = ["x", *(f"t{number}" for number in range(len(ops) - 1)), "y"]
    nodes = [op(kind, [names[number]], [names[number + 1]]) for number, kind in enumerate(ops)]
    return model(nodes, [tensor("x", list(LARGE.shape))], [tensor("y", list(LARGE.shape))])


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The copies into the memories of OpenCL and of the example accelerator."""
    from acme_npu.memory import DeviceMemory as Acme
    from mace_opencl.memory import DeviceMemory as OpenCl

    found: list[str] = []
    for name, owner in (("acme", Acme), ("opencl", OpenCl)):
        for call in ("to_device", "enqueue_to_device"):
            plain = getattr(owner, call)

            def counted(self: Any, *given: Any, plain: Any = plain, name: str = name, **named: Any) -> Any:
                found.append(name)
                return plain(self, *given, **named)

            monkeypatch.setattr(owner, call, counted)
    return found


def test_opencl_reads_what_the_cpu_computed_where_it_is(copies: list[str]) -> None:
    pins = {"Neg": "cpu", "Abs": "opencl:0", "Relu": "cpu", "Exp": "opencl:0"}
    with Session(large_chain("Neg", "Abs", "Relu", "Exp"), devices=["cpu", "opencl:0"], pins=pins) as session:
        for scale in (1, 2, 3):
            (found,) = session.run({"x": LARGE * scale}).values()
            np.testing.assert_allclose(found, np.exp(np.abs(LARGE * scale)), rtol=1e-5)
        session.profile({"x": LARGE})
        assert len([t for t in session.explain().transfers if t.target == "opencl:0"]) == 2
        assert copies == []


@pytest.fixture
def apu(monkeypatch: pytest.MonkeyPatch) -> str:
    """The stand-in for MediaTek's library, whose memory is in anonymous files: those stand in for dma-bufs."""
    tests = Path(__file__).parents[2] / "plugins" / "apu" / "tests"
    monkeypatch.setattr(sys, "path", [str(tests), *sys.path])
    support = importlib.import_module("apu_support")
    if support.compiler() is None:
        pytest.skip("no C compiler is here to build the stand-in")
    monkeypatch.setenv("MACE_NEURON_LIB_DIR", str(support.build()))
    return "apu:stand-in"


def test_a_dma_buf_goes_from_one_accelerator_to_the_other(copies: list[str], apu: str) -> None:
    pins = {"Neg": apu, "Relu": "acme:sim0"}
    with Session(large_chain("Neg", "Relu"), devices=[apu, "acme:sim0", "cpu"], pins=pins) as session:
        for scale in (1, -2, 3):
            (found,) = session.run({"x": LARGE * scale}).values()
            np.testing.assert_array_equal(found, np.maximum(-LARGE * scale, 0))
        assert {entry.device for entry in session.explain().nodes} == {apu, "acme:sim0"}
        assert copies == []


@pytest.mark.parametrize(("least", "version", "uploads"), [(0, 3, 0), (1 << 20, 3, 1), (0, 2, 1)])
def test_small_tensors_are_copied_and_for_older_providers_all(
    monkeypatch: pytest.MonkeyPatch, least: int, version: int, uploads: int
) -> None:
    monkeypatch.setattr(lent, "LEAST_BYTES", least)
    near = make_provider("near", claims={"Abs"})
    far = make_provider("far", claims={"Neg"}, **{**IMPORTING, "api_version": ApiVersion(1, version)})
    with Session(chain("Abs", "Neg"), devices=["near", "far"], registry=registry_of(near, far)) as session:
        np.testing.assert_array_equal(session.run({"x": X})["y"], -np.abs(X))
        (backend,) = far.opened
        assert backend.counter.uploads == uploads


def test_what_is_lent_outlives_its_first_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """The device reads it again after the host has computed more, which must not take its place."""
    monkeypatch.setattr(lent, "LEAST_BYTES", 0)
    near = make_provider("near", claims={"Neg", "Floor"})
    far = make_provider("far", claims={"Abs", "Max"}, **IMPORTING)
    nodes = [op("Neg", ["x"], ["t"]), op("Abs", ["t"], ["f"]), op("Floor", ["f"], ["c"]), op("Max", ["c", "t"], ["y"])]
    built = model(nodes, [tensor("x", [2, 4])], [tensor("y", [2, 4])])
    with Session(built, devices=["near", "far"], registry=registry_of(near, far), optimize=False) as session:
        for scale in (1, 2):
            (found,) = session.run({"x": X * scale}).values()
            np.testing.assert_array_equal(found, np.maximum(np.floor(np.abs(X * scale)), -X * scale))
        (backend,) = far.opened
        assert (backend.counter.uploads, backend.imported) == (0, 0)


@pytest.mark.parametrize(
    ("answer", "words"),
    [(lambda *_: object(), "a defect of the provider"), (lambda *_: 1 / 0, "ZeroDivisionError")],
)
def test_an_export_that_fails_names_model_device_and_call(
    monkeypatch: pytest.MonkeyPatch, answer: Any, words: str
) -> None:
    monkeypatch.setattr(lent, "LEAST_BYTES", 0)
    monkeypatch.setattr(StandInBackend, "export_memory", answer)
    near = make_provider("near", memory=MemoryKind.PINNED, claims={"Abs"})
    far = make_provider("far", claims={"Neg"}, **{**IMPORTING, "imports": frozenset({ForeignKind.DMA_BUF})})
    registry = registry_of(near, far)
    with (
        Session(
            chain("Abs", "Neg"), devices=["near", "far"], registry=registry, faults=FaultLimits(move=False)
        ) as session,
        pytest.raises(ProviderError, match=rf"model.*near:0: Backend\.export_memory.*{words}"),
    ):
        session.run({"x": X})


@st.composite
def problems(draw: st.DrawFn) -> tuple[Any, list[dict[str, Any]]]:
    """A random graph of element-wise operators, and three devices that share it."""
    unary, binary = ["Neg", "Abs", "Relu"], ["Add", "Sub", "Max"]
    nodes, names = [], ["x"]
    for index in range(draw(st.integers(1, 12))):
        kind = draw(st.sampled_from(unary + binary))
        inputs = [draw(st.sampled_from(names)) for _ in range(2 if kind in binary else 1)]
        names.append(f"v{index}")
        nodes.append(op(kind, inputs, [names[-1]]))
    outputs = draw(st.lists(st.sampled_from(names[1:]), unique=True, min_size=1, max_size=3))
    devices = [
        {
            "claims": set(draw(st.lists(st.sampled_from(unary + binary), unique=True))),
            "memory": draw(st.sampled_from([MemoryKind.HOST, MemoryKind.PINNED, MemoryKind.DEVICE])),
            "has_queue": draw(st.booleans()),
        }
        for _ in range(3)
    ]
    for device in devices:
        if device["memory"] is MemoryKind.DEVICE:
            device.update(IMPORTING)
    built = model(nodes, [tensor("x", [2, 4])], [tensor(name, [2, 4]) for name in outputs])
    return built, devices


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(problems())
def test_what_is_lent_keeps_its_content(
    monkeypatch: pytest.MonkeyPatch, problem: tuple[Any, list[dict[str, Any]]]
) -> None:
    """The stand-ins read what they imported when their queue gets to it: late, and in any order of devices."""
    monkeypatch.setattr(lent, "LEAST_BYTES", 0)
    built, devices = problem
    providers = [make_provider(name, **device) for name, device in zip("abc", devices, strict=True)]
    registry = registry_of(*providers)
    with Session(built, devices=["reference"], registry=registry, optimize=False) as session:
        expected = session.run({"x": X})
    with Session(built, devices=list("abc"), registry=registry, optimize=False) as session:
        for _ in range(2):
            found = session.run({"x": X})
            for name, value in expected.items():
                np.testing.assert_array_equal(found[name], value)
        for provider in providers:
            for backend in provider.opened:
                assert backend.imported == 0, "given back"
