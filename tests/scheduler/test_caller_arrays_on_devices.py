"""Arrays of the caller for what devices with memory of their own compute: one copy, from there into the array."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scheduler_models import chain, diamond
from scheduler_stand_ins import make_provider, registry_of

from mace_core.errors import DeviceLostError, InputError
from mace_core.scheduler.profile import Profile
from mace_core.scheduler.running import executor
from mace_core.session import Session
from mace_core.tensor import MemoryKind

X = np.array([[-2.0, -1.0, 1.0, 3.0], [4.0, -5.0, 6.0, 0.5]], np.float32)


@pytest.mark.parametrize("has_queue", [False, True])
@pytest.mark.parametrize("memory", [MemoryKind.HOST, MemoryKind.PINNED, MemoryKind.DEVICE])
def test_what_a_device_computed_goes_straight_into_the_array(memory: MemoryKind, has_queue: bool) -> None:
    far = make_provider("far", memory=memory, has_queue=has_queue, claims={"Relu", "Abs", "Mul"})
    near = make_provider("near", claims={"Neg", "Add"})
    with Session(diamond(), devices=["far", "near"], registry=registry_of(far, near), strict=True) as session:
        expected = session.run({"x": X})
        for _ in range(2):
            given = {name: np.zeros_like(array) for name, array in expected.items()}
            with session.bind(inputs={"x": X}, outputs=given) as bound:
                found = bound.run()
                assert bound.copied == {}
            for name, array in given.items():
                assert found[name] is array
                np.testing.assert_array_equal(array, expected[name])


@pytest.mark.parametrize("memory", [MemoryKind.PINNED, MemoryKind.DEVICE])
def test_the_only_copy_is_that_from_the_device(memory: MemoryKind, monkeypatch: pytest.MonkeyPatch) -> None:
    far = make_provider("far", memory=memory)
    with Session(chain("Neg", "Abs"), devices=["far"], registry=registry_of(far), strict=True) as session:
        session.run({"x": X})
        targets: list[int] = []
        honest = executor.StageInstance._download

        def download(self: Any, step: Any) -> None:
            honest(self, step)
            targets.append(self._bound[step.target].address)

        monkeypatch.setattr(executor.StageInstance, "_download", download)
        y, profile = np.zeros_like(X), Profile()
        session.run({"x": X}, into={"y": y})
        session.run({"x": X}, into={"y": y}, profile=profile)
        assert targets == [y.ctypes.data] * 2
        assert [span.name for span in profile.spans if "copy" in span.name] == []
        np.testing.assert_array_equal(y, abs(X))


def test_a_run_that_begins_again_elsewhere_reads_what_was_fed() -> None:
    """The array is what is fed: the device that fails had written results, which must not be fed to the next."""
    far = make_provider("far", memory=MemoryKind.HOST)
    near = make_provider("near")
    with Session(chain("Neg", "Exp"), devices=["far", "near"], registry=registry_of(far, near)) as session:
        session.run({"x": X})
        far.faults.append(DeviceLostError("gone", device="far:0"))
        x = X.copy()
        found = session.run({"x": x}, into={"y": x})
        assert found["y"] is x
        np.testing.assert_allclose(x, np.exp(-X), rtol=1e-6)


def test_a_wrong_shape_is_refused_before_anything_runs() -> None:
    far = make_provider("far", memory=MemoryKind.DEVICE)
    with Session(chain("Neg"), devices=["far"], registry=registry_of(far), strict=True) as session:
        session.run({"x": X})
        profile = Profile()
        with pytest.raises(InputError, match=r"output 'y' is float32\[2, 4\] for these inputs"):
            session.run({"x": X}, into={"y": np.zeros((3, 4), np.float32)}, profile=profile)
        assert profile.spans == []
