"""What all checks share: fixtures, and cases chosen by what the declaration promises."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest

from mace_core.graph import Graph
from mace_core.host.signals import signals_kept
from mace_core.provider import Backend, CompiledSubgraph, Device, ExecutionProvider
from mace_core.provider.registry import default_registry
from mace_core.session import Session
from mace_core.testing.cases import Case, operator_cases
from mace_core.testing.declaration import Declaration
from mace_core.testing.expected import expected
from mace_core.testing.runner import view_of

Array = npt.NDArray[Any]

SMALLEST_SIZE = 8


class KitBase:
    """A declaration, the device it is about, and cases to try on it."""

    declaration: ClassVar[Declaration]

    # --- fixtures -------------------------------------------------------------------------------------------------

    @pytest.fixture(scope="class")
    @classmethod
    def provider(cls) -> ExecutionProvider:
        return default_registry().provider(cls.declaration.provider)

    @pytest.fixture(scope="class")
    @classmethod
    def device(cls, provider: ExecutionProvider) -> Device:
        with signals_kept():
            found = provider.probe()
        for device in found.devices:
            if device.id == cls.declaration.device:
                return device
        reasons = "; ".join(f"{missing.what}: {missing.reason}" for missing in found.missing)
        pytest.skip(f"{cls.declaration.device_name} is not on this machine: {reasons}")

    @pytest.fixture(autouse=True)
    def signals_stay(self) -> Iterator[None]:
        """What the core sees to around calls of a provider: else Ctrl-C could end the tests without a word."""
        with signals_kept():
            yield

    @pytest.fixture
    def backend(self, provider: ExecutionProvider, device: Device) -> Iterator[Backend]:
        opened = provider.open(device, self.declaration.options)
        yield opened
        opened.close()

    # --- helpers ----------------------------------------------------------------------------------------------------

    def session(self, device: Device, graph: Graph, *, strict: bool) -> Session:
        """A session with the device first; the fallback behind it is the core's own."""
        options = {self.declaration.provider: dict(self.declaration.options)}
        return Session(graph, devices=[device.qualified_name], options=options, strict=strict)

    def some_case(self) -> Case:
        """A case the declaration promises to claim."""
        for case in operator_cases():
            if self.declaration.claims(case) and case.first_input.size >= SMALLEST_SIZE:
                return case
        raise AssertionError("the declaration claims none of the kit's cases")

    def case_of_weights(self) -> list[Case]:
        """The first case with constants that the declaration promises to claim, if there is one."""
        return [case for case in operator_cases() if case.constants and self.declaration.claims(case)][:1]

    def repeatable_case(self) -> Case:
        """A case the declaration promises to claim whose result can be fed to it again, and then gives another one."""
        for case in operator_cases():
            if not self.declaration.claims(case) or len(case.feeds()) != 1 or case.output_count != 1:
                continue
            if case.first_input.size < SMALLEST_SIZE:
                continue
            (first,) = expected(case).values()
            if (first.dtype, first.shape) != (case.first_input.dtype, case.first_input.shape):
                continue
            (second,) = expected(replace(case, inputs=[first, *case.inputs[1:]])).values()
            if np.isfinite(second).all() and not np.allclose(first, second, rtol=0, atol=0.01):
                return case
        pytest.skip("the declaration claims no case of one input whose result can be fed to it again")

    def compiled_case(self, backend: Backend) -> tuple[Case, CompiledSubgraph]:
        """The first case that the declaration claims, and its compiled subgraph."""
        case = self.some_case()
        (compiled,) = backend.compile([view_of(case.graph(), case.feeds())])
        return case, compiled


def shifted(case: Case, step: int) -> dict[str, Array]:
    """The case's feeds, different for each step."""
    return {name: (array + array.dtype.type(step)).astype(array.dtype) for name, array in case.feeds().items()}
