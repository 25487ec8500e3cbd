"""The kit finds what is wrong with queues, events, cancelling, profiles, blobs, memory and options of a provider."""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "vendor_plugin"))
sys.path.insert(0, str(Path(__file__).parent))

from acme_npu.provider import AcmeProvider
from machinery_faults import FAULTS, Fault, Patch

from mace_core.provider import Backend, Device
from mace_core.testing import Declaration, ProviderConformance
from mace_core.testing.cases import operator_cases


class Kit(ProviderConformance):
    """Not collected: its checks are called one by one."""

    __test__ = False
    declaration = Declaration(
        provider="acme",
        device="sim0",
        operators={"MatMul": ("float32",), "Relu": ("float32",), "Sigmoid": ("float32",)},
        declines=dict.fromkeys(("MatMul batched", "MatMul broadcast batch"), "the second operand is not constant"),
        tolerance=1e-6,
        serializes=True,
        streams=True,
    )


@pytest.fixture
def provider() -> AcmeProvider:
    return AcmeProvider()


@pytest.fixture
def device(provider: AcmeProvider) -> Device:
    return provider.probe().devices[0]


@pytest.fixture
def backend(provider: AcmeProvider, device: Device) -> Iterator[Backend]:
    opened = provider.open(device, {})
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: Patch) -> None:
    """A check that hangs is given up on sooner than a vendor's."""
    monkeypatch.setattr("mace_core.testing.kit.waiting.PATIENCE_SECONDS", 2.0)
    monkeypatch.setattr("mace_core.testing.kit.stopping.ATTEMPTS", 4)


def check_with(check: str, provider: AcmeProvider, device: Device, backend: Backend) -> None:
    """Call one check of the kit with what it asks for."""
    function = getattr(Kit(), f"test_{check}")
    (case,) = [case for case in operator_cases() if case.name == "Relu (3, 17)"]
    offered = {"provider": provider, "device": device, "backend": backend, "claimed_case": case}
    function(**{name: offered[name] for name in inspect.signature(function).parameters})


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
def test_a_fault_is_found(
    fault: Fault, provider: AcmeProvider, device: Device, backend: Backend, monkeypatch: Patch
) -> None:
    fault.apply(monkeypatch)
    with pytest.raises((Exception, pytest.fail.Exception), match=f"(?s){fault.words}") as found:
        check_with(fault.check, provider, device, backend)
    assert not isinstance(found.value, pytest.skip.Exception)
    assert threading.active_count() < 64


@pytest.mark.parametrize("check", sorted({fault.check for fault in FAULTS}))
def test_without_a_fault_nothing_is_found(check: str, provider: AcmeProvider, device: Device, backend: Backend) -> None:
    check_with(check, provider, device, backend)
