"""The ONNX package's own interface to engines, over sessions: ``onnx.backend.test`` can drive it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx
from onnx.backend.base import Backend, BackendRep

from mace_core.session import Session


class SessionRep(BackendRep):  # type: ignore[misc]  # onnx has no types
    """A model ready to run."""

    def __init__(self, session: Session, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        self._session = session
        self._inputs = list(inputs)
        self._outputs = list(outputs)

    def run(self, inputs: Sequence[Any], **_: Any) -> tuple[Any, ...]:
        """Outputs in the model's order for inputs in its order."""
        found = self._session.run(dict(zip(self._inputs, inputs, strict=False)))
        return tuple(found[name] for name in self._outputs)


def session_backend(provider: str, *, strict: bool = True) -> type[Backend]:
    """A backend class whose models run on ``provider``; ``strict``: on nothing else."""

    class SessionBackend(Backend):  # type: ignore[misc]
        """Prepares models as sessions."""

        @classmethod
        def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **_: Any) -> SessionRep:
            session = Session(model, devices=[provider], strict=strict, cache=False)
            initialized = {tensor.name for tensor in model.graph.initializer}
            fed = [value.name for value in model.graph.input if value.name not in initialized]
            return SessionRep(session, fed, [value.name for value in model.graph.output])

        @classmethod
        def run_model(cls, model: onnx.ModelProto, inputs: Sequence[Any], device: str = "CPU", **_: Any) -> Any:
            return cls.prepare(model, device).run(inputs)

        @classmethod
        def supports_device(cls, device: str) -> bool:
            return device == "CPU"

    return SessionBackend
