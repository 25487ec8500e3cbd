"""The models that a server has."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from mace_core.errors import UsageError
from mace_core.serving.datatypes import name_of
from mace_core.serving.exchange import InferAnswer, InferRequest
from mace_core.serving.failures import Fault, ServingError, bad_request, fault_of
from mace_core.serving.sequences import Sequences

if TYPE_CHECKING:
    from mace_core.serving.metrics import Metrics
    from mace_core.session import Session

_log = logging.getLogger("mace")

VERSION = "1"
"""Of every model; a server has one of each."""

PLATFORM = "onnx_mace"


class ServedModel:
    """A model under a name.

    Attributes:
        name: what clients call it.
        session: runs it.
    """

    def __init__(
        self, name: str, session: Session, metrics: Metrics, *, max_sequences: int = 1024, sequence_idle: float = 60.0
    ) -> None:
        """``max_sequences``, ``sequence_idle``: as `ServerOptions` has them, for a model that keeps state."""
        self.name = name
        self.session = session
        self._metrics = metrics
        self._sequences: Sequences | None = None
        if session.state:
            self._sequences = Sequences(name, session.state, session.first_state(), max_sequences, sequence_idle)

    @property
    def metadata(self) -> dict[str, Any]:
        """As the protocol has it; sizes that are free are -1."""
        return {
            "name": self.name,
            "versions": [VERSION],
            "platform": PLATFORM,
            "inputs": [_tensor(spec) for spec in self.session.inputs],
            "outputs": [_tensor(spec) for spec in self.session.outputs],
        }

    async def infer(self, request: InferRequest) -> InferAnswer:
        """Run the model when its turn comes.

        Raises:
            MaceError: if the request does not fit the model, there is no room for it or the run fails.
        """
        start = time.perf_counter()
        fault: Fault | None = Fault.CANCELLED
        try:
            outputs = await self._run(request)
            fault = None
        except asyncio.CancelledError:
            raise
        except Exception as error:
            fault, _ = fault_of(error)
            if fault is Fault.FAILED:
                _log.error("%s: a request failed: %s", self.name, error)
            raise
        finally:
            self._metrics.observe(self.name, fault, time.perf_counter() - start)
        return InferAnswer(self.name, VERSION, request, outputs)

    async def _run(self, request: InferRequest) -> Mapping[str, Any]:
        sequences = self._sequences
        if sequences is None:
            if request.sequence is not None:
                raise bad_request(f"the model '{self.name}' keeps no state: leave 'sequence_id' out")
            return await self._outputs(request, request.feeds, request.names)
        own = [name for name in request.feeds if name in sequences.pairs]
        if own:
            raise bad_request(f"'{own[0]}' is state of the model '{self.name}', which the server keeps: leave it out")
        sequence = sequences.of(request)
        names = request.names or [spec.name for spec in self.session.outputs]
        async with sequence.turn:
            feeds = {**request.feeds, **sequence.state}
            found = dict(await self._outputs(request, feeds, [*names, *sequences.pairs.values()]))
            sequence.state = {name: found.pop(output) for name, output in sequences.pairs.items()}
        sequences.ended(request, sequence)
        return found

    async def _outputs(
        self, request: InferRequest, feeds: Mapping[str, Any], names: list[str] | None
    ) -> Mapping[str, Any]:
        return await self.session.run_async(feeds, names, priority=request.priority, deadline=request.deadline)


def _tensor(spec: Any) -> dict[str, Any]:
    shape = [-1] if spec.shape is None else [size if isinstance(size, int) else -1 for size in spec.shape]
    return {"name": spec.name, "datatype": name_of(spec.dtype), "shape": shape}


class Models(Mapping[str, ServedModel]):
    """Models by name.

    Attributes:
        in_flight: how many requests for them are on their way.
        draining: set once the server has been asked to end.
    """

    def __init__(self, models: Mapping[str, ServedModel], max_requests: int) -> None:
        self._models = dict(models)
        self._limit = max_requests
        self.in_flight = 0
        self.draining = asyncio.Event()

    def __getitem__(self, name: str) -> ServedModel:
        return self._models[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)

    @property
    def is_ready(self) -> bool:
        """Whether new requests are welcome: the server has not been asked to end."""
        return not self.draining.is_set()

    def find(self, name: str, version: str = "") -> ServedModel:
        """The model that a client names.

        Raises:
            ServingError: if there is none.
        """
        found = self._models.get(name)
        if found is None:
            raise ServingError(Fault.NOT_FOUND, f"there is no model '{name[:80]}' here; see {', '.join(self._models)}")
        if version not in ("", VERSION):
            raise ServingError(Fault.NOT_FOUND, f"the model '{name}' has no version '{version[:80]}', but {VERSION}")
        return found

    def accepted(self) -> _Accepted:
        """Stands for one request while it is read, run and answered.

        Raises:
            ServingError: when it is entered, if there are too many.
        """
        return _Accepted(self)

    def _enter(self) -> None:
        if self.in_flight >= self._limit:
            raise ServingError(Fault.BUSY, f"{self._limit} requests are on their way already; try again later")
        self.in_flight += 1

    def _leave(self) -> None:
        self.in_flight -= 1

    def close(self) -> None:
        """Close all sessions."""
        for model in self._models.values():
            model.session.close()


class _Accepted:
    def __init__(self, models: Models) -> None:
        self._models = models

    def __enter__(self) -> None:
        self._models._enter()

    def __exit__(self, *_: object) -> None:
        self._models._leave()


def try_batching(session: Session, name: str, max_batch: int, max_delay: float) -> bool:
    """Have a session put requests together, where its model allows it; else say why not.

    Returns:
        Whether it does.
    """
    if max_batch <= 1:
        return False
    if session.state:
        _log.warning("%s is served request by request: it keeps state from run to run", name)
        return False
    try:
        session.batching(max_batch, max_delay)
    except UsageError as error:
        _log.warning("%s is served request by request: %s", name, error)
        return False
    return True
