"""What an application holds: a model made ready to run."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, overload

from mace_core.activity import Activity
from mace_core.errors import UsageError
from mace_core.faults import FaultLimits
from mace_core.governor.places import Places
from mace_core.governor.state import governed
from mace_core.host.memory import return_free_memory
from mace_core.host.process_end import at_work
from mace_core.host.signals import signals_kept
from mace_core.kept_state import SessionState
from mace_core.provider.execution import CancelFlag
from mace_core.provider.registry import Registry, default_registry
from mace_core.scheduler.explaining import Explaining
from mace_core.scheduler.opening import SessionArguments, alone_on, choose_devices, load, own_constants, planner_of
from mace_core.scheduler.planning.assumptions import AssumedShapes
from mace_core.scheduler.planning.custom_ops import provide_custom_ops
from mace_core.scheduler.planning.defaults import OptionalInputs
from mace_core.scheduler.planning.devices import DevicePool
from mace_core.scheduler.planning.policy import Policy
from mace_core.scheduler.planning.signatures import static_types, types_from_shapes
from mace_core.scheduler.planning.specs import ValueSpec, spec_of
from mace_core.scheduler.profile import Profile
from mace_core.scheduler.running.careful_runs import CarefulRuns
from mace_core.scheduler.running.failures import raise_explained
from mace_core.scheduler.running.quick_runs import QuickRuns
from mace_core.scheduler.running.session_runners import SessionRunners

if TYPE_CHECKING:
    from mace_core.binding import Binding
    from mace_core.bound_arrays import BoundArrays
    from mace_core.frontend.load import Model
    from mace_core.governor import Governor
    from mace_core.package.keys import PublicKey
    from mace_core.requests.batching import Batcher
    from mace_core.requests.future import RunFuture
    from mace_core.requests.queue import DeviceQueue
    from mace_core.scheduler.costs.rates import Rates
    from mace_core.scheduler.explain import Explanation
    from mace_core.scheduler.planning.devices import SessionDevice
    from mace_core.scheduler.running.into import Into
    from mace_core.streaming import Stream

_AT_WORK = at_work()
_now = time.perf_counter_ns


class Session:
    """A model ready to run on one or more devices.

    Safe to use from several threads.  Plans are kept per input signature (shapes), so new shapes simply work.

        with Session("model.onnx") as session:
            outputs = session.run({"x": array})

    Attributes:
        inputs, outputs: name, element type and shape of each; symbolic dimensions are names.  Inputs that the model has
            defaults for are ``optional``, and come last.  State that the model says it keeps is in neither.
        metadata: the model's own key-value properties.
    """

    @at_work()
    def __init__(
        self,
        model: Model,
        *,
        devices: Sequence[str] | None = None,
        options: Mapping[str, Mapping[str, object]] | None = None,
        strict: bool = False,
        pins: Mapping[str, str] | None = None,
        max_signatures: int = 16,
        optimize: bool = True,
        cache: bool = True,
        mmap: bool = True,
        check_numerics: bool | str = False,
        registry: Registry | None = None,
        policy: str | Policy | None = None,
        faults: FaultLimits | None = None,
        governor: Governor | None = None,
        signature: str | None = None,
        dynamic_range: str | None = None,
        trusted_keys: Sequence[PublicKey] | None = None,
        processing: bool = True,
    ) -> None:
        """Load, optimize and, where all input shapes are fixed and no flag chooses between branches, plan a model.

        Args:
            model: a path, bytes, an ``onnx.ModelProto`` or a ``Graph`` (taken over: it may be changed).
            devices: in order of priority, ``provider`` or ``provider:device`` each.  None: all real devices, best
                first.  What they decline goes to the CPU provider where that is installed, else to the reference.
            options: per provider or device, for example ``{"cpu": {"threads": 2}}``.
            strict: no node may run anywhere but on the devices named.
            pins: node name or operator type (with ``*``, ``?``) -> device to run it; ``"cpu + opencl:0"``: a part each.
            max_signatures: plans kept, and as many sets of sizes for plans that serve many shapes; the least
                recently used is dropped.
            optimize: simplify the graph first.
            cache: use and fill the caches on disk.
            mmap: keep weights in the mapped file (see ``load_model``).
            check_numerics: stop at the first node that computes a NaN or an infinity; ``"nan"`` lets infinities pass
                (a mask may be made of them).  For finding faults: every node runs by itself, nothing is fused, and
                each result is looked at.
            registry: where providers are found; the process's own by default.
            policy: how nodes are shared among the devices: ``latency``, ``throughput`` or ``power`` by what the
                placement costs, ``prefer_gpu``, ``prefer_npu``, ``cpu_only`` or ``order`` by the order of the devices,
                or a `Policy`.  None: ``order`` where devices are named, else ``latency``.
            faults: when failing devices rest, how long plugins may take; default: what ``MACE_FAULT_LIMITS`` says.
            signature: which of a file's graphs, where it holds several under names; None: the usual one.
            dynamic_range: of TensorFlow Lite's products of floats with weights in integers: ``integer``, as in LiteRT,
                or ``float``; None: what ``MACE_DYNAMIC_RANGE`` says, else ``integer``.
            governor: of `mace_core.governor.for_sessions`, which decides where it runs; None: that of the process.
            trusted_keys: public keys (files, or their content); nothing but a package that one of them has signed is
                opened.  None: what the environment variable ``MACE_TRUSTED_KEYS`` says.
            processing: with the steps before and after the model that a package may have; False: the model alone.

        Raises:
            ModelError: if the model cannot be read.
            SignatureError: if it is not a package that a trusted key has signed, and ``trusted_keys`` ask for one.
            UsageError, DeviceNotFoundError, PluginError: for devices, options or pins that mean nothing here.
            StrictPlacementError: if ``strict`` cannot be kept (for free dimensions: at the first run).
        """
        given = SessionArguments(
            devices=devices,
            options=options,
            strict=strict,
            pins=pins,
            max_signatures=max_signatures,
            optimize=optimize,
            cache=cache,
            mmap=mmap,
            check_numerics=check_numerics,
            registry=registry,
            policy=policy,
            faults=faults,
            governor=governor,
            signature=signature,
            dynamic_range=dynamic_range,
            trusted_keys=trusted_keys,
            processing=processing,
        )
        self._registry = registry or default_registry()
        self._options = given.options
        self._closed = False
        self.governor = governor
        self._queue: DeviceQueue | None = None  # of those that asked for runs
        self._batcher: Batcher | None = None
        self._places: Places[Session] | None = None  # where it can run besides
        self._elsewhere: Session | None = None  # where it runs now, if not here
        self._model, load_again = load(model, given, self._registry)
        graph = self._graph = self._model.graph
        self._optional: OptionalInputs | None = None
        if load_again is not None:
            same = {**given.keywords(), "governor": None}
            self._optional = OptionalInputs(graph.defaults, load_again, lambda changed: Session(changed, **same))
        self._places = Places(model, self._model.label, lambda path, names: Session(path, **given.elsewhere(names)))
        if provide_custom_ops(graph, self._registry):
            self._model.forget_resolutions()  # a shape function may answer differently in the next process
        self._constants = own_constants(graph, self._registry, self._model.label)
        chosen, placed = choose_devices(given, self._registry, self._model)
        self._pool = DevicePool(chosen, given.chosen_policy, self._rates_of)
        self._activity = Activity(graph.source_path or graph.name, self._pool.open_names)
        try:
            for device in self._pool.devices:
                if device.has_options:
                    self._pool.ready(device)
            self._planner = planner_of(given, self._model, self._pool, placed, self._constants)
            self._runners = SessionRunners(self._planner, graph, given.limits)
            self._runners.failover.activity = self._activity
            self._runner, self._flags = self._runners.whole, self._runners.flags
            optional = () if self._optional is None else self._optional.specs
            self._state = SessionState.of(self, graph)
            kept: frozenset[str] = frozenset() if self._state is None else self._state.names
            given_inputs = (spec_of(value) for value in graph.inputs if value.name not in kept)
            self.inputs: tuple[ValueSpec, ...] = (*given_inputs, *optional)
            results = (spec_of(value) for value in graph.outputs if value.name not in kept)
            self.outputs: tuple[ValueSpec, ...] = tuple(results)
            self.metadata: dict[str, str] = dict(graph.metadata)
            self._output_names = [value.name for value in graph.outputs]
            self._quick = self._own_quick = QuickRuns(self._runners, graph.inputs, graph.outputs, self._model.label)
            self._explaining = Explaining(self._runners, self._model, self._registry)
            self._careful = CarefulRuns(self._runners, graph, self._model.label)
            types = static_types(graph.inputs)
            if types is not None and not self._flags.values:
                self._runners.plan(types, {}).release()
        except BaseException:
            self.close()
            raise
        self._activity.own(self)
        if governor is not None:
            governor.join(self)
        if os.environ.get("MACE_MONITOR"):
            from mace_core.monitoring import publish_if_asked

            publish_if_asked()

    def _rates_of(self, device: SessionDevice) -> Rates | None:
        """What is known of the device's costs; measured now, once for this machine, where nothing was."""
        from mace_core.scheduler.planning.device_rates import rates_of

        alone = alone_on(device, self._options, self._registry)
        return rates_of(device, lambda graph: Session(graph, **alone))

    # --- running --------------------------------------------------------------------------------------------------

    def run(
        self,
        feeds: Mapping[str, Any],
        outputs: Sequence[str] | None = None,
        *,
        into: Mapping[str, Any] | None = None,
        profile: Profile | None = None,
        cancel: CancelFlag | None = None,
    ) -> dict[str, Any]:
        """Run the model once.

        A model that says which of its outputs feed which inputs next (`state`) goes on from where the run before left
        it; with any of these inputs among the feeds, the run is one by itself.

        Args:
            feeds: input name -> numpy array, DLPack tensor, plain number or list; a list for a sequence, None for an
                absent optional.
            outputs: names of the outputs wanted (only what they need is computed); all by default.
            into: output name -> array (numpy, or a DLPack tensor of the host) that the output is written into: by the
                last step itself, where the array is contiguous and shares no memory with what is fed, else as a copy.
                After an error their content is undefined.
            profile: filled with time spans.
            cancel: set it from another thread to stop the run.

        Returns:
            Output name -> numpy array (a list for a sequence, None for an absent optional).  They are the caller's;
            those of ``into`` are what was given.

        Raises:
            InputError: if the feeds do not fit the model, and nothing ran; or an output does not fit into its array.
            UsageError: if another run is writing one of these arrays.
            CancelledError: if ``cancel`` was set.
            NumericsError: if the session checks numerics and a node computed what is not finite.
            ProviderError: if a device failed; the session stays usable.
        """
        if into is not None:
            self._check_open()
            checked = self._careful.into(into)
            with checked.reserved():
                return self.run_into(checked, feeds, outputs, profile=profile, cancel=cancel)
        if (state := self._state) is not None and not state.is_fed(feeds):
            return self._run_kept(state, feeds, outputs, None, profile, cancel)
        activity = self._activity
        start_ns = _now()
        try:
            with _AT_WORK:
                if outputs is None and profile is None:
                    self._check_open()
                    found = self._quick.run(feeds, cancel)
                    if found is not None:
                        activity.runs += 1
                        activity.busy_ns += _now() - start_ns
                        return found
                found = self._run(feeds, outputs, profile, cancel)
            activity.runs += 1
            activity.busy_ns += _now() - start_ns
            return found
        except BaseException as error:
            self._failed(error)
            raise

    def run_into(
        self,
        into: Into,
        feeds: Mapping[str, Any],
        outputs: Sequence[str] | None = None,
        *,
        profile: Profile | None = None,
        cancel: CancelFlag | None = None,
    ) -> dict[str, Any]:
        """As `run`, with arrays for outputs that have been checked and that the caller holds (`Into.reserve`)."""
        if (state := self._state) is not None and not state.is_fed(feeds):
            return self._run_kept(state, feeds, outputs, into, profile, cancel)
        activity = self._activity
        start_ns = _now()
        try:
            with _AT_WORK:
                found = None
                if outputs is None and profile is None:
                    self._check_open()
                    found = self._quick.run(feeds, cancel, into)
                if found is None:
                    found = self._run(feeds, outputs, profile, cancel, into)
            activity.runs += 1
            activity.busy_ns += _now() - start_ns
            return found
        except BaseException as error:
            self._failed(error)
            raise

    def _run_kept(
        self,
        state: SessionState,
        feeds: Mapping[str, Any],
        outputs: Sequence[str] | None,
        into: Into | None,
        profile: Profile | None,
        cancel: CancelFlag | None,
    ) -> dict[str, Any]:
        """Run once, and go on from there the next time."""
        self._check_open()
        activity, start_ns = self._activity, _now()
        try:
            found = state.run(feeds, outputs, into=into, profile=profile, cancel=cancel)
        except BaseException as error:
            self._failed(error)
            raise
        activity.runs += 1
        activity.busy_ns += _now() - start_ns
        return found

    @property
    def state(self) -> dict[str, str]:
        """What the model says it keeps from run to run: input name -> name of the output that feeds it next.

        `run` keeps it; `bind` and `stream` take it for streams of their own.
        """
        return {} if self._state is None else dict(self._state.pairs)

    def first_state(self) -> dict[str, Any]:
        """What the inputs of `state` are fed in a first run: arrays, for callers who keep state by themselves.

        Raises:
            UsageError: if the model does not say the shape of one.
        """
        return {} if self._state is None else self._state.first()

    def reset(self) -> None:
        """Forget what the runs so far left behind: the next one begins as the first did."""
        self._check_open()
        if self._state is not None:
            self._state.reset()

    def _failed(self, error: BaseException) -> None:
        """Count it; where the system ran out of something, raise what is to be done."""
        self._activity.failures += 1
        if isinstance(error, MemoryError | OSError):
            raise_explained(error, self._model.label)

    @overload
    def bind(
        self,
        pairs: Mapping[str, str],
        start: Mapping[str, Any] | None = None,
        *,
        capacity: int | None = None,
        limit: int | None = None,
    ) -> Binding: ...

    @overload
    def bind(
        self, *, inputs: Mapping[str, Any] | None = None, outputs: Mapping[str, Any] | None = None
    ) -> BoundArrays: ...

    def bind(
        self,
        pairs: Mapping[str, str] | None = None,
        start: Mapping[str, Any] | None = None,
        *,
        capacity: int | None = None,
        limit: int | None = None,
        inputs: Mapping[str, Any] | None = None,
        outputs: Mapping[str, Any] | None = None,
    ) -> Binding | BoundArrays:
        """A stream of runs that keeps state, or arrays that runs read and write where they lie.

            with session.bind({"past_key": "present_key", "past_value": "present_value"}) as decoding:
                logits = decoding.run({"ids": prompt})["logits"]
                logits = decoding.run({"ids": next_token})["logits"]

            with session.bind(inputs={"image": image}, outputs={"scores": scores}) as bound:
                while camera.read_into(image):
                    bound.run()  # `scores` has them

        State: outputs of a run are inputs of the next, past the caller.  Where an output is the input with something
        appended (a cache of keys), and the device can, the state lies in memory with room for more, and a run writes
        the new entries alone.  Other outputs are handed over as they are.

        Args:
            pairs: input name -> name of the output that feeds it next.
            start: input name -> what it is fed in the first run; copied.  By default what the model says, else zeros;
                the one dimension that neither the model nor the other inputs decide is 0.
            capacity: entries to make room for at first, where a state grows; doubled whenever they do not suffice.
            limit: entries that no state may exceed; a run that would is refused, and leaves the state as it is.
            inputs: input name -> array (numpy, DLPack or `DmaBuf`) that each run reads anew.
            outputs: output name -> array that each run writes; see ``into`` of `run`.

        Raises:
            UsageError: if there are no such inputs and outputs, or an output cannot be what an input is fed.
            InputError: if ``start``, ``inputs`` or ``outputs`` do not fit the model.
        """
        self._check_open()
        if pairs is None:
            if start is not None or capacity is not None or limit is not None:
                raise UsageError(f"{self._model.label}: start, capacity and limit are for state; give pairs to bind")
            from mace_core.bound_arrays import BoundArrays

            return BoundArrays(self, inputs, outputs)
        if inputs is not None or outputs is not None:
            raise UsageError(
                f"{self._model.label}: bind takes either pairs, for state, or inputs and outputs, for arrays; give "
                "arrays to the binding's run with 'into'"
            )
        from mace_core.binding import Binding

        if self._state is not None:
            start = {**self._state.start(pairs), **(start or {})}
        if (other := self._fed(pairs)) is not None:
            return other.bind(pairs, start, capacity=capacity, limit=limit)
        return Binding(self, pairs, start, capacity, limit)

    def stream(
        self,
        state: Mapping[str, str] | None = None,
        *,
        audio: str | None = None,
        window: int | None = None,
        context: int = 0,
        overlap: int = 0,
        rate: int = 16000,
        feeds: Mapping[str, Any] | None = None,
        outputs: Sequence[str] | None = None,
        start: Mapping[str, Any] | None = None,
    ) -> Stream:
        """A stream of audio, in buffers of any length, with state from step to step.

            with session.stream({"state": "stateN"}, context=64) as stream:
                for buffer in microphone:
                    for outputs in stream.push(buffer): ...

        Args:
            state, start: as of `bind`; by default what the model itself says it keeps (`state`); without any, every
                window is run by itself.
            audio: the input for the samples, its last axis; may be left out where all others are state or in ``feeds``.
            window: samples the model sees in one run; by default what its input takes, else 200 ms.
            context: how many of these were heard before, zeros at first.
            overlap: how many of these the window before had too.
            rate: samples a second, for the default window.
            feeds: the other inputs, the same for all windows.
            outputs: names of the outputs wanted.

        Raises:
            UsageError: if the inputs, outputs or sizes do not fit the model.
        """
        from mace_core.streaming import Stream

        self._check_open()
        return Stream(
            self, self.state if state is None else state, audio, window, context, overlap, rate, feeds, outputs, start
        )

    def _run(
        self,
        feeds: Mapping[str, Any],
        outputs: Sequence[str] | None,
        profile: Profile | None,
        cancel: CancelFlag | None,
        into: Into | None = None,
    ) -> dict[str, Any]:
        self._check_open()
        if (elsewhere := self._elsewhere) is not None:
            return elsewhere._run(feeds, outputs, profile, cancel, into)
        if (other := self._fed(feeds)) is None:
            return self._careful.run(feeds, outputs, profile, cancel, into)
        if into is not None:
            return other.run_into(into, feeds, outputs, profile=profile, cancel=cancel)
        return other.run(feeds, outputs, profile=profile, cancel=cancel)

    def run_async(
        self,
        feeds: Mapping[str, Any],
        outputs: Sequence[str] | None = None,
        *,
        priority: int = 0,
        deadline: float | None = None,
        cancel: CancelFlag | None = None,
        wait: float | None = 0.0,
        into: Mapping[str, Any] | None = None,
    ) -> RunFuture:
        """Ask for a run and return at once; the queue of the session's first device runs it when its turn comes.

            outputs = await session.run_async({"x": array}, deadline=0.05)

        Args:
            feeds, outputs, cancel: as of `run`.  Arrays are not copied: leave them as they are until the run is done.
            priority: higher goes first, among the requests of all sessions on that device.
            deadline: seconds from now after which the result is of no use: what is not done then is given up.
            wait: seconds to wait where the queue is full; None: until there is room.  A thread that runs an event loop
                does not wait: the future does, and raises the error where there was no room.
            into: as of `run`; no other run may write these arrays until this one is over, and it is in no batch.

        Raises:
            QueueFullError: if there was no room.
            InputError: if an array of ``into`` cannot be written.
            UsageError: if the session is closed, or another run is to write an array of ``into``.
        """
        from mace_core.requests.asking import ask

        self._check_open()
        return ask(self, feeds, outputs, priority, deadline, cancel, wait, into)

    def batching(self, max_batch: int = 8, max_delay: float = 0.002) -> None:
        """Run requests of `run_async` that come at about the same time as one batch, from now on.

        Args:
            max_batch: the most rows of a batch; 1: no batches any more.
            max_delay: seconds that a request waits for others at most.

        Raises:
            UsageError: if no input has a free first axis, or a request's results would depend on the others.
        """
        from mace_core.requests.asking import batcher_for

        self._check_open()
        self._batcher = batcher_for(self, max_batch, max_delay)

    def profile(self, feeds: Mapping[str, Any], outputs: Sequence[str] | None = None) -> Profile:
        """Run once and tell where the time went; the results are in ``Profile.outputs``."""
        found = Profile()
        found.outputs = self.run(feeds, outputs, profile=found)
        return found

    @at_work()
    def prepare(self, shapes: Mapping[str, Sequence[int]]) -> None:
        """Plan and compile for these input shapes now, so that the first run with them is fast.

        Raises:
            InputError: if the shapes do not fit the model.
        """
        self._check_open()
        if (other := self._elsewhere or self._fed(shapes)) is not None:
            other.prepare(shapes)
        else:
            if self._state is not None:
                shapes = self._state.with_shapes(shapes)
            for plan in self._runners.plans(types_from_shapes(self._graph.inputs, shapes, self._model.label)):
                plan.release()

    @at_work()
    def explain(self, shapes: Mapping[str, Sequence[int]] | None = None) -> Explanation:
        """Which node runs where, and why not elsewhere.

        Args:
            shapes: the input shapes to explain; by default those of the latest run, or the model's own.  Where the
                model leaves dimensions free and nothing ran yet, sizes are assumed, and the explanation says so.
        """
        self._check_open()
        if (other := self._elsewhere or self._fed(shapes)) is not None:
            return other.explain(shapes)
        found = self._explaining.explain(shapes)
        found.governor = (self.governor.text if self.governor else "") or governed()
        return found

    @at_work()
    def run_on(self, devices: Sequence[str] | None) -> None:
        """Run on these devices from the next run on; None: on those it was opened with.

        The plans of both are kept: the first time costs what opening a session costs, going back and forth nothing.
        Runs that have begun, and streams of `bind`, stay where they are.

        Raises:
            UsageError: if the model did not come from a file.
            MaceError: as opening a session on these devices does; it stays where it is then.
        """
        self._check_open()
        assert self._places is not None
        there = None if devices is None else self._places.on(devices)
        if there is not None:
            there._activity.close()  # this one counts the runs of both
            there.governor = self.governor
        self._elsewhere = there
        self._quick = self._own_quick if there is None else there._quick
        self._activity.now_on((there or self)._pool.open_names)

    @at_work()
    def assume_shapes(self, shapes: Mapping[str, Sequence[int]] | None = None) -> AssumedShapes:
        """Shapes for all inputs, where the model leaves dimensions free: usual sizes, the first that it takes.

        Args:
            shapes: of inputs whose shape is decided; the others follow from them as far as they share symbols.

        Raises:
            InputError: if ``shapes`` do not fit the model.
            UsageError: if it takes none of the sizes tried; the message has a shape to start from.
        """
        self._check_open()
        if (other := self._fed(shapes)) is not None:
            return other.assume_shapes(shapes)
        return self._explaining.assume_shapes(shapes)

    @at_work()
    def measure_peaks(self, seconds: float = 0.2) -> dict[str, float]:
        """Float32 multiply-accumulates a second that each open device can do, by qualified name; those that know.

        Args:
            seconds: how long to measure each device.
        """
        self._check_open()
        found = {device.name: device.measure_peak(seconds) for device in self._pool.devices if device.is_open}
        return {name: peak for name, peak in found.items() if peak}

    @property
    def arena_bytes(self) -> int:
        """Bytes of the memory on the host that runs compute in and that is kept from one run to the next, now."""
        return sum(self._pool.arenas.held_bytes)

    # --- lifetime -------------------------------------------------------------------------------------------------

    @at_work()
    def close(self) -> None:
        """Free plans, device memory and devices; runs in progress in other threads end first.  Idempotent."""
        if self._closed:
            return
        self._closed = True
        if hasattr(self, "_activity"):
            self._activity.close()
        if self._queue is not None:
            self._queue.drop(self, UsageError(f"the session of {self._model.label} was closed before the run began"))
        runners = getattr(self, "_runners", None)
        with signals_kept():
            for opened in (getattr(self, "_state", None), runners, self._optional, self._places):
                if opened is not None:
                    opened.close()
            self._pool.release()
        constants = getattr(self, "_constants", None)
        if constants is not None:
            constants.close()
        return_free_memory()

    def __enter__(self) -> Session:
        self._check_open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self, _is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:  # `sys` may be gone by then
        if getattr(self, "_closed", True) is False and hasattr(self, "_pool") and not _is_finalizing():
            self._queue = None  # a request would hold the session; this thread may hold the queue's lock
            self.close()

    def __reduce__(self) -> NoReturn:
        raise UsageError(
            "a session cannot be copied or sent to another process: it holds devices and threads; "
            "send the path of the model and open one there"
        )

    def __repr__(self) -> str:
        devices = ", ".join(device.name for device in self._pool.devices)
        return f"Session({self._model.label}, devices=[{devices}]{', closed' if self._closed else ''})"

    def _repr_html_(self) -> str:
        from mace_core.scheduler.notebook import session_html

        named = self._model.label, [device.name for device in self._pool.devices]
        return session_html(*named, self.inputs, self.outputs, self.metadata, is_closed=self._closed)

    def _fed(self, names: object) -> Session | None:
        """The session for a call that gives a value, or a shape, for an input that has a default."""
        if self._optional is None or not isinstance(names, Mapping):
            return None
        return self._optional.session_fed(names)

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError(f"the session of {self._model.label} is closed")
