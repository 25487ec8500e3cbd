"""Audio, in buffers of any length, through a model that takes windows of one length and keeps state between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mace_core.errors import UsageError
from mace_core.host.fork_safe import fork_safe_lock
from mace_core.provider.execution import CancelFlag
from mace_core.tensor import TensorType

if TYPE_CHECKING:
    from mace_core.binding import Binding
    from mace_core.graph import Value
    from mace_core.requests.future import RunFuture
    from mace_core.session import Session

DEFAULT_SECONDS = 0.2
"""What a window holds where neither the model nor the caller says."""

Outputs = list[dict[str, Any]]


class Stream:
    """One stream of samples through a session: `Session.stream` makes it.

    The model sees windows of ``window`` samples.  A window begins ``hop = window - context - overlap`` samples after
    the one before, so that it begins with the last ``context + overlap`` samples of that.  Before the first sample of a
    stream come ``context`` zeros: a model with context answers after ``hop`` samples, and every ``hop`` samples from
    then on.  With overlap alone the first window is one of real samples, and is run once there are ``window`` of them.

    One stream is for one source of samples; any number of streams, on any threads, may use one session.

    Attributes:
        window, hop: samples.
    """

    def __init__(
        self,
        session: Session,
        state: Mapping[str, str],
        audio: str | None,
        window: int | None,
        context: int,
        overlap: int,
        rate: int,
        feeds: Mapping[str, Any] | None,
        outputs: Sequence[str] | None,
        start: Mapping[str, Any] | None,
    ) -> None:
        self._session, self._label = session, session._model.label
        self._feeds = dict(feeds or {})
        self._outputs = None if outputs is None else list(outputs)
        source = _audio_input(session._graph.inputs, audio, {*state, *self._feeds}, self._label)
        assert isinstance(source.type, TensorType), "looked at before"
        self._name, self._dtype = source.name, np.dtype(source.type.dtype.numpy)
        self.window = _window(source, window, rate, self._label)
        for name, count in (("context", context), ("overlap", overlap)):
            if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 0:
                raise UsageError(f"{self._label}: {name} is a number of samples, not {count!r}")
        self.hop = self.window - context - overlap
        if self.hop < 1:
            raise UsageError(
                f"{self._label}: a window of {self.window} samples leaves nothing new to hear after {context} of "
                f"context and {overlap} of overlap"
            )
        self._shape = (1,) * (len(source.type.shape or ()) - 1) + (self.window,)
        self._context, self._kept = context, context + overlap
        self._binding: Binding | None = session.bind(state, start) if state else None
        self._lock = fork_safe_lock()
        self._ready: Outputs = []
        self._buffer: npt.NDArray[Any] = np.zeros(context, self._dtype)

    def push(self, samples: npt.ArrayLike, *, cancel: CancelFlag | None = None) -> Outputs:
        """Take the next samples, and run the model on every window that is complete.

        Args:
            samples: (n,), any n; what does not fill a window waits for the next call.  Whole numbers of 16 bits are
                scaled to -1..1 where the model takes floats.
            cancel: set it from another thread to stop.

        Returns:
            The outputs of each window, in order; by name, without those that are state.

        Raises:
            UsageError: if these are no samples, or another thread is using the stream.
            InputError, CancelledError, ProviderError: as ``Session.run``.  The window that failed is run again by the
                next call, which also returns what had been computed before it.
        """
        new = self._samples(samples)
        with _Held(self):
            self._buffer = np.concatenate([self._buffer, new])
            return self._run(cancel)

    def flush(self, *, cancel: CancelFlag | None = None) -> Outputs:
        """Run what waits, filled up with zeros to a whole window: the end of the sound.

        Returns:
            As `push`; nothing where no sample waits.  The stream may go on, as after a pause.
        """
        with _Held(self):
            self._fill_up()
            return self._run(cancel)

    def reset(self, start: Mapping[str, Any] | None = None) -> None:
        """Forget all samples and the state, and begin anew; ``start`` as of `Session.bind`."""
        with _Held(self):
            if self._binding is not None:
                self._binding.reset(start)
            self._ready = []
            self._buffer = np.zeros(self._context, self._dtype)

    async def push_async(self, samples: npt.ArrayLike, *, priority: int = 0, deadline: float | None = None) -> Outputs:
        """As `push`, with every window in the queue of the session's device; see `Session.run_async`.

        Raises:
            DeadlineError: if a window was not done ``deadline`` seconds after its turn was asked for.
            QueueFullError: never; the call waits for room.
        """
        new = self._samples(samples)
        return await self._run_async(new, priority, deadline)

    async def flush_async(self, *, priority: int = 0, deadline: float | None = None) -> Outputs:
        """As `flush`, by way of the queue."""
        return await self._run_async(None, priority, deadline)

    @property
    def waiting(self) -> int:
        """New samples that no window has taken yet."""
        return max(0, len(self._buffer) - self._kept)

    def close(self) -> None:
        """Give the memory of the state back.  Idempotent."""
        if self._binding is not None:
            self._binding.close()
        self._ready = []
        self._buffer = np.zeros(0, self._dtype)

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Stream({self._label}, {self._name}, window={self.window}, hop={self.hop})"

    # --- private ----------------------------------------------------------------------------------------------------

    def _samples(self, samples: npt.ArrayLike) -> npt.NDArray[Any]:
        found = np.asarray(samples)
        if found.ndim != 1 or found.dtype.kind not in "fiu":
            raise UsageError(
                f"{self._label}: samples are numbers in one dimension, not {found.dtype} of shape {list(found.shape)}; "
                f"push one channel, of one source"
            )
        if self._dtype.kind == "f" and found.dtype == np.int16:
            return (found / np.float32(32768)).astype(self._dtype)
        if self._dtype.kind == "f" and found.dtype.kind == "f":
            return found.astype(self._dtype, copy=False)
        if found.dtype != self._dtype:
            raise UsageError(f"{self._label}: '{self._name}' takes samples of {self._dtype}, not of {found.dtype}")
        return found

    def _fill_up(self) -> None:
        missing = self.window - len(self._buffer)
        if self.waiting:
            self._buffer = np.concatenate([self._buffer, np.zeros(missing, self._dtype)])

    def _run(self, cancel: CancelFlag | None) -> Outputs:
        while len(self._buffer) >= self.window:
            self._step(cancel)
        return self._taken()

    def _step(self, cancel: CancelFlag | None) -> None:
        """Run one window; samples and state move on together, or neither does."""
        fed = {self._name: self._buffer[: self.window].reshape(self._shape), **self._feeds}
        runner = self._session if self._binding is None else self._binding
        self._ready.append(runner.run(fed, self._outputs, cancel=cancel))
        self._buffer = self._buffer[self.hop :]

    def _taken(self) -> Outputs:
        found, self._ready = self._ready, []
        return found

    async def _run_async(self, new: npt.NDArray[Any] | None, priority: int, deadline: float | None) -> Outputs:
        held = _Held(self)
        held.__enter__()
        future: RunFuture | None = None
        try:
            if new is None:
                self._fill_up()
            else:
                self._buffer = np.concatenate([self._buffer, new])
            while len(self._buffer) >= self.window:
                future = self._ask(priority, deadline)
                await future
            return self._taken()
        finally:
            if future is None or future.done():
                held.__exit__()
            else:  # it was cancelled, and the window still runs
                future.add_done_callback(lambda _: held.__exit__())

    def _ask(self, priority: int, deadline: float | None) -> RunFuture:
        from mace_core.requests.asking import ask_for

        def run(feeds: Mapping[str, Any], outputs: Sequence[str] | None, cancel: CancelFlag) -> dict[str, Any]:
            self._step(cancel)
            return {}

        return ask_for(self._session, run, {}, None, priority, deadline, None, None)


class _Held:
    """A stream in use by one thread or task."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def __enter__(self) -> None:
        if not self._stream._lock.acquire(blocking=False):
            raise UsageError(
                f"another thread or task is using this stream of {self._stream._label}; make one stream for each source"
            )

    def __exit__(self, *_: object) -> None:
        self._stream._lock.release()


def _audio_input(inputs: Sequence[Value], name: str | None, taken: set[str], label: str) -> Value:
    """The input that takes the samples."""
    free = [value for value in inputs if value.name not in taken]
    found = [value for value in free if name in (None, value.name)]
    if len(found) != 1 or len(free) != 1:
        names = ", ".join(repr(value.name) for value in free) or "none"
        raise UsageError(
            f"{label}: a stream feeds one input with samples, and {names} is neither state nor in 'feeds'"
            + ("" if name is None else f"; '{name}' was named")
        )
    (value,) = found
    shape = value.type.shape if isinstance(value.type, TensorType) else None
    if not shape or any(isinstance(size, int) and size != 1 for size in shape[:-1]):
        raise UsageError(
            f"{label}: the input '{value.name}' ({value.type}) does not take samples of one source in its last axis"
        )
    return value


def _window(source: Value, window: int | None, rate: int, label: str) -> int:
    assert isinstance(source.type, TensorType) and source.type.shape
    fixed = source.type.shape[-1]
    if window is not None and (isinstance(window, bool) or not isinstance(window, int | np.integer) or window < 1):
        raise UsageError(f"{label}: a window is a number of samples, not {window!r}")
    if isinstance(fixed, int):
        if window not in (None, fixed):
            raise UsageError(f"{label}: the input '{source.name}' takes {fixed} samples, not windows of {window}")
        return fixed
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not rate * DEFAULT_SECONDS >= 1:
        raise UsageError(f"{label}: a rate is a number of samples a second, not {rate!r}")
    return int(window) if window is not None else int(rate * DEFAULT_SECONDS)
