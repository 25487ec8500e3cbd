"""What a plan decided, as data and as text: which node runs where, why, and why not elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mace_core.graph import Graph, Node, Value
from mace_core.graph.origin import Origin
from mace_core.presentation import Column, Table, number, prose
from mace_core.provider.registry import CUSTOM
from mace_core.scheduler.host.control_flow import ControlFlow
from mace_core.scheduler.planning.devices import DevicePool
from mace_core.scheduler.planning.model import Preparation
from mace_core.scheduler.planning.partition import CORE_DEVICE, PINNED
from mace_core.scheduler.planning.plan import ControlStep, RunStep, UploadStep
from mace_core.scheduler.planning.stages import Stage
from mace_core.scheduler.planning.told_costs import measured_seconds
from mace_core.scheduler.running.plans import AnyPlan
from mace_core.scheduler.running.runner import GraphRunner
from mace_core.symbolic import hint
from mace_core.tensor import TensorType


@dataclass(frozen=True, slots=True)
class NodeExplanation:
    """Where one node runs.

    Attributes:
        node: its name.
        op: its operator.
        device: qualified device name, or "core" for control flow and sequences.
        reason: why there.
        declined: for each device that comes before, why not there.
        scope: the control-flow nodes around it, "outer/branch" for example; "" for the model itself.
        partition: number of its partition within its plan.
        note: the device's remark on how it is computed, "" for none.
        source: nodes of the model file that it stands for.
        inputs, outputs: names of the values it reads and writes; those it has none for are left out.
        layer: of the author's own model, where the file tells (`mace_core.graph.origin`); else "".
    """

    node: str
    op: str
    device: str
    reason: str
    declined: Mapping[str, str]
    scope: str
    partition: int
    note: str = ""
    source: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    layer: str = ""


@dataclass(frozen=True, slots=True)
class PartitionExplanation:
    """Nodes that run together.

    Attributes:
        device: qualified device name, or "core".
        nodes: their names.
        scope: as for a node.
        padding: along what they are padded to the sizes that the device declares, or why not.
        predicted_seconds: what a placement by cost went by; None where costs had no say.
        measured_seconds: the shortest time of the runs that were timed, of earlier processes too; None before the
            first.
        next_best: the devices on which the next best placement has these nodes; "" where there is none.
        next_best_predicted, next_best_measured: seconds there, as above; the latter None where nobody measured it.
    """

    device: str
    nodes: tuple[str, ...]
    scope: str
    padding: tuple[str, ...] = ()
    predicted_seconds: float | None = None
    measured_seconds: float | None = None
    next_best: str = ""
    next_best_predicted: float | None = None
    next_best_measured: float | None = None


@dataclass(frozen=True, slots=True)
class TransferExplanation:
    """One copy between memories."""

    value: str
    source: str
    target: str
    nbytes: int


@dataclass(frozen=True, slots=True)
class ArenaExplanation:
    """One arena: its size, and the least that any plan would need."""

    location: str
    nbytes: int
    lower_bound_bytes: int


@dataclass(slots=True)
class Explanation:
    """Everything decided for one input signature.

    Attributes:
        signature: the inputs planned for, as text.
        nodes, partitions, transfers, arenas: the decisions.
        folded: nodes that need not run: this signature decides their results.
        computed: nodes that run once in a session: they depend on constants alone.
        waiting: nodes that are planned during the run, when shapes that depend on data are known.
        fallbacks: nodes per device that runs them only because those before it decline; of the reference always, but
            for nodes that the user pinned to it.
        pinned: nodes per device that are there because the user pinned them.
        named: devices used that the user named.
        advice: what to install so that the reference has less to do; "" where that would not help.
        refused: devices not used, with the reason.
        devices: devices used, with what each is.
        virtual: devices used that are a simulator, an emulation or a stand-in, with what they are.
        free_inputs: inputs with free dimensions, as the model declares them.
        compile_per_shape: devices used that compile again for another shape of those; the others only plan it.
        preparations: what the session's devices compiled or took from the cache so far, in order.
        guards: conditions under which the plan serves other shapes too; empty where it is made for one signature.
        one_by_one: why shapes are planned one by one, where a plan for many could not be made; else "".
        notes: by device in use, what its provider wants read about how it was opened.
        choices: for each part of the model that was placed by cost, the choice and the next best, in a sentence.
        governor: what the governor of heat holds runs to; "" where none runs.
    """

    signature: str
    nodes: list[NodeExplanation] = field(default_factory=list)
    partitions: list[PartitionExplanation] = field(default_factory=list)
    transfers: list[TransferExplanation] = field(default_factory=list)
    arenas: list[ArenaExplanation] = field(default_factory=list)
    folded: list[str] = field(default_factory=list)
    computed: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    fallbacks: dict[str, int] = field(default_factory=dict)
    pinned: dict[str, int] = field(default_factory=dict)
    named: tuple[str, ...] = ()
    advice: str = ""
    refused: dict[str, str] = field(default_factory=dict)
    devices: dict[str, str] = field(default_factory=dict)
    virtual: dict[str, str] = field(default_factory=dict)
    free_inputs: dict[str, str] = field(default_factory=dict)
    compile_per_shape: list[str] = field(default_factory=list)
    preparations: tuple[Preparation, ...] = ()
    notes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    guards: tuple[str, ...] = ()
    one_by_one: str = ""
    choices: tuple[str, ...] = ()
    governor: str = ""

    @property
    def fallback_count(self) -> int:
        """Nodes on a fallback device or on the reference, those pinned there left out."""
        return sum(self.fallbacks.values())

    @property
    def nodes_per_device(self) -> dict[str, int]:
        return dict(Counter(entry.device for entry in self.nodes))

    def __str__(self) -> str:
        return "\n".join([*self.summary_lines(), *_partition_lines(self)])

    def summary_lines(self) -> list[str]:
        """What holds for the whole model, without what is told of each node."""
        return list(_summary_lines(self))

    def reasons_table(self) -> Table:
        """Why nodes are where they are: one row for those with one operator, device and reasons, most nodes first."""
        counted: Counter[tuple[str, str, str, str]] = Counter()
        for entry in self.nodes:
            declined = "; ".join(f"not on {device}: {reason}" for device, reason in entry.declined.items())
            note = f"; {entry.note}" if entry.note else ""
            counted[entry.op, entry.device, f"{entry.reason}{note}", declined] += 1
        rows = [(str(count), *words) for words, count in counted.most_common()]
        columns = (
            number("nodes"),
            Column("operator"),
            Column("device", 1),
            prose("why there", 3),
            prose("why not elsewhere", 2),
        )
        return Table(columns, rows, "why they are there:")

    def _repr_html_(self) -> str:
        from mace_core.scheduler.notebook import explanation_html

        return explanation_html(self)


def explain_plan(plan: AnyPlan, pool: DevicePool, signature: str, inputs: Sequence[Value] = ()) -> Explanation:
    """The explanation of a plan with the bodies and later stages planned so far; ``inputs``: the model's."""
    found = Explanation(signature)
    found.free_inputs = {
        value.name: str(value.type)
        for value in inputs
        if isinstance(value.type, TensorType) and not value.type.is_concrete
    }
    if plan.plan.sizes is not None:
        found.guards = plan.plan.sizes.texts
    _add_plan(found, plan, "", pool)
    if origins := plan.plan.stage.graph.origins:
        found.nodes = [replace(entry, layer=_layer(entry, origins)) for entry in found.nodes]
    for device in pool.devices:
        reasons = [entry.reason for entry in found.nodes if entry.device == device.name]
        used = len(reasons)
        if pinned := reasons.count(PINNED):
            found.pinned[device.name] = pinned
        if used and device.named and not device.only_pinned:
            found.named += (device.name,)
        if used > pinned and (device.is_fallback or device.is_reference) and device.device.provider != CUSTOM:
            found.fallbacks[device.name] = used - pinned
        if used and found.free_inputs and device.compiles_per_shape:
            found.compile_per_shape.append(device.name)
        if used:
            found.devices[device.name] = device.device.name
        if used and device.device.is_virtual:
            found.virtual[device.name] = device.device.name
        if used and device.notes:
            found.notes[device.name] = device.notes
        if reason := pool.refusal(device):
            found.refused[device.name] = reason
        if failure := pool.failures.get(device.name):
            found.notes[device.name] = (*found.notes.get(device.name, ()), failure)
    return found


def _add_plan(found: Explanation, plan: AnyPlan, scope: str, pool: DevicePool) -> None:
    stage, placed = plan.plan.stage, plan.plan.placed
    costs, times = placed.partitioning.costs, placed.times
    measured = {step.nodes: step.measured_ns / 1e9 for step in plan.plan.steps if isinstance(step, RunStep)}
    if costs is not None:
        found.choices += (costs.summary(times, pool),)
    found.choices += placed.partitioning.splits
    for index, (part, compiled) in enumerate(zip(placed.partitioning.partitions, placed.compiled, strict=True)):
        notes = {} if compiled is None else compiled.notes
        padding = placed.notes[index] if placed.notes else ()
        number = len(found.partitions)
        names = tuple(node.name for node in part.nodes)
        predicted = None if costs is None else costs.predicted[index]
        seconds = measured.get(part.nodes) or measured_seconds([(part.device, names)], times, pool)
        told = PartitionExplanation(part.device, names, scope, padding, predicted, seconds)
        if costs is not None and costs.elsewhere:
            other = costs.elsewhere[index]
            took = measured_seconds(other.partitions, times, pool)
            told = replace(told, next_best=other.device, next_best_predicted=other.seconds, next_best_measured=took)
        found.partitions.append(told)
        for node in part.nodes:
            placement = placed.partitioning.placements[node]
            entry = NodeExplanation(
                node.name,
                node.qualified_op,
                placement.device,
                placement.reason,
                dict(placement.declined),
                "/".join(part for part in (scope, stage.scopes.get(node, "")) if part),
                number,
                notes.get(node.name, ""),
                *_ends(node),
            )
            found.nodes.append(entry)
            if compiled is not None:
                _add_inner_nodes(found, stage, node, entry, notes)
    later = set(stage.rest.nodes) if stage.rest is not None else set()
    running = set(stage.nodes)
    found.folded += [node.name for node in stage.graph.nodes if node not in running and node not in later]
    found.folded += [node.name for node in stage.decided]
    for step in plan.plan.transfers:
        register = plan.plan.registers[step.source]
        ends = ("host", step.device) if isinstance(step, UploadStep) else (step.device, "host")
        found.transfers.append(TransferExplanation(register.value.name, *ends, hint(register.nbytes)))
    for location, arena in plan.plan.arenas.items():
        nbytes = arena.total_bytes if plan.sizes is None else plan.sizes.arenas[location]
        found.arenas.append(ArenaExplanation(location, nbytes, arena.lower_bound_bytes))
    for body_scope, runner in _bodies(plan, scope):
        _add_runner(found, runner, body_scope, pool)
    if plan.rest is not None:
        _add_runner(found, plan.rest, scope, pool)


def _add_inner_nodes(
    found: Explanation, stage: Stage, node: Node, around: NodeExplanation, notes: Mapping[str, str]
) -> None:
    """The nodes in the nested graphs of a node that a device runs as a whole; ``around`` is what was said of it."""
    for name, attribute in node.attributes.items():
        body = attribute.value
        if not isinstance(body, Graph):
            continue
        reason, scope = f"{around.device} runs the {node.op_type} around it", f"{around.scope}/{node.name}.{name}"
        for inner in body.nodes:
            if all(value is None or value in stage.known for value in inner.outputs):
                found.folded.append(inner.name)
                continue
            note = notes.get(inner.name, "")
            entry = NodeExplanation(
                inner.name,
                inner.qualified_op,
                around.device,
                reason,
                {},
                scope.lstrip("/"),
                around.partition,
                note,
                *_ends(inner),
            )
            found.nodes.append(entry)
            _add_inner_nodes(found, stage, inner, entry, notes)


def _layer(entry: NodeExplanation, origins: Mapping[str, Origin]) -> str:
    """The first layer that one of the nodes of the file comes from."""
    return next((str(origins[name]) for name in (*entry.source, entry.node) if name in origins), "")


def _ends(node: Node) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Nodes of the file, and names of the values read and written."""
    inputs = tuple(value.name for value in node.inputs if value is not None)
    return node.source, inputs, tuple(value.name for value in node.outputs if value is not None)


def _add_runner(found: Explanation, runner: GraphRunner, scope: str, pool: DevicePool) -> None:
    plan = runner.last_plan
    if plan is not None:
        _add_plan(found, plan, scope, pool)
    else:
        found.waiting += [f"{scope}/{node.name}" if scope else node.name for node in runner.graph.nodes]


def _bodies(plan: AnyPlan, scope: str) -> Iterator[tuple[str, GraphRunner]]:
    for step in plan.plan.steps:
        if isinstance(step, ControlStep):
            control: ControlFlow = step.control
            for name, body in control.bodies.items():
                if isinstance(body, GraphRunner):
                    yield "/".join(part for part in (scope, f"{step.node.name}.{name}") if part), body


def _summary_lines(found: Explanation) -> Iterator[str]:
    yield f"placement for {found.signature or 'no inputs'}"
    for device, count in found.nodes_per_device.items():
        note = f"  ({found.pinned[device]} pinned by the user)" if device in found.pinned else ""
        if device in found.fallbacks:
            note += "  (fallback)"
        elif device == CORE_DEVICE:
            note = "  (control flow, sequences)"
        if device in found.virtual:
            note += f"  (virtual: {found.virtual[device]}; its speed means nothing)"
        yield f"  {device}: {count} node{'s' * (count != 1)}{note}"
    if found.governor:
        yield f"  {found.governor}"
    for choice in found.choices:
        yield f"  {choice}"
    for position, part in enumerate(found.partitions):
        if part.predicted_seconds is not None:
            yield f"  partition {position}: {part.device}, {len(part.nodes)} nodes, {_costs_of(part)}"
    if found.advice:
        yield f"  {found.advice}"
    if found.free_inputs:
        planned = [device for device in found.nodes_per_device if device not in found.compile_per_shape]
        costs = [f"{device} compiles it" for device in found.compile_per_shape]
        costs += [f"{', '.join(planned)} only plan{'s' * (len(planned) == 1)} it"] if planned else []
        inputs = ", ".join(f"{name} {type}" for name, type in found.free_inputs.items())
        yield f"  free dimensions: {inputs}; another shape: {', '.join(costs)}"
    for words, count in Counter(note for part in found.partitions for note in part.padding).items():
        yield f"  {words}{f' ({count} partitions)' if count > 1 else ''}"
    if found.one_by_one:
        yield f"  shapes are planned one by one: {found.one_by_one}"
    if found.guards:
        yield f"  serves every shape with {', '.join(found.guards)}"
    if found.folded:
        yield f"  {len(found.folded)} nodes need not run: this signature decides their results"
    if found.computed:
        yield f"  {len(found.computed)} nodes run once in a session: they depend on constants alone"
    if found.waiting:
        yield f"  {len(found.waiting)} nodes are planned during the run, when the shapes they depend on are known"
    for device, reason in found.refused.items():
        yield f"  {device} is not used: {reason}"
    for device, notes in found.notes.items():
        yield from (f"  note of {device}: {note}" for note in notes)
    for arena in found.arenas:
        needed = f"at least {arena.lower_bound_bytes} needed"
        yield f"  memory on {arena.location}: {arena.nbytes} bytes in one arena ({needed})"
    for preparation in found.preparations:
        yield f"  {preparation}"


def _costs_of(part: PartitionExplanation) -> str:
    """``predicted 1.2 ms, measured 1.3 ms``."""
    words = [] if part.predicted_seconds is None else [f"predicted {part.predicted_seconds * 1e3:.3g} ms"]
    words += [] if part.measured_seconds is None else [f"measured {part.measured_seconds * 1e3:.3g} ms"]
    text = ", ".join(words)
    if part.next_best and part.next_best_predicted is not None:
        took = part.next_best_measured
        text += f"; next best on {part.next_best}, predicted {part.next_best_predicted * 1e3:.3g} ms, "
        text += "not measured" if took is None else f"measured {took * 1e3:.3g} ms"
    return text


def _partition_lines(found: Explanation) -> Iterator[str]:
    for position, part in enumerate(found.partitions):
        where = f" in {part.scope}" if part.scope else ""
        yield f"partition {position} on {part.device}{where}:"
        for entry in found.nodes:
            if entry.partition == position:
                note = f"; {entry.note}" if entry.note else ""
                layer = f", {entry.layer}" if entry.layer else ""
                yield f"  {entry.node} ({entry.op}){layer}: {entry.reason}{note}"
                for device, reason in entry.declined.items():
                    yield f"    not on {device}: {reason}"
    if found.transfers:
        total = sum(transfer.nbytes for transfer in found.transfers)
        yield f"transfers: {len(found.transfers)} a run, {total} bytes"
        for transfer in found.transfers:
            yield f"  {transfer.value}: {transfer.source} -> {transfer.target}, {transfer.nbytes} bytes"
