"""A model placed for a processor as a whole, or an error that names the node that stands against it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mace_core.ahead_of_time.ranges import ShapeRange, Shapes, SizeRange, checked_size, shape_text
from mace_core.ahead_of_time.variants import SUPPORTED_TYPES, Signature, VariantMaker
from mace_core.errors import InputError, StrictPlacementError, UnsupportedError, UsageError
from mace_core.graph import GraphView, Node, Value
from mace_core.graph.kept import kept_state
from mace_core.processing import fix_inputs
from mace_core.provider import CompiledSubgraph
from mace_core.provider.registry import Registry
from mace_core.scheduler.opening import SessionArguments, load, own_constants
from mace_core.scheduler.planning.assumptions import assumed_shapes, first_taken
from mace_core.scheduler.planning.custom_ops import provide_custom_ops
from mace_core.scheduler.planning.devices import DevicePool, SessionDevice
from mace_core.scheduler.planning.model import PreparedModel
from mace_core.scheduler.planning.placement import PlacedStage, compile_views
from mace_core.scheduler.planning.remembered import RememberedPlacements
from mace_core.scheduler.planning.selection import select_devices
from mace_core.scheduler.planning.signatures import given_shapes, types_from_shapes
from mace_core.scheduler.planning.stages import Stage
from mace_core.scheduler.running.planner import Planner
from mace_core.symbolic import Trace
from mace_core.tensor import TensorType, ValueType

if TYPE_CHECKING:
    from mace_core.frontend.load import Model

DEVICE = "cpu"
"""The provider whose programs are written into libraries."""


class LibraryModel:
    """A model on its way into a library.

    Attributes:
        label: how messages call it.
        file: the name of its file, or of the graph.
        inputs, outputs: of the graph.
        states: what it keeps from run to run, by the names of inputs.
        assumed: sizes of free dimensions that nobody gave, ``height=224``.
    """

    def __init__(
        self,
        model: Model,
        target: str,
        threads: int,
        optimize: bool,
        registry: Registry,
        precision: str = "float32",
        fixed: Mapping[str, Any] | None = None,
    ) -> None:
        self._registry = registry
        options: dict[str, object] = {"target": target, "threads": threads, "precision": precision}
        self._options: dict[str, dict[str, object]] = {DEVICE: options}
        given = SessionArguments.for_writing(
            devices=[DEVICE], options=self._options, strict=True, optimize=optimize, registry=registry
        )
        prepared, _ = load(fix_inputs(model, fixed) if fixed else model, given, registry)
        self.label, self._graph = prepared.label, prepared.graph
        provide_custom_ops(self._graph, registry)
        is_path = isinstance(model, str | os.PathLike)
        self.file = Path(model).name if is_path else self._graph.name  # type: ignore[arg-type]
        self.inputs: Sequence[Value] = tuple(self._graph.inputs)
        self.outputs: Sequence[Value] = tuple(self._graph.outputs)
        self.states = kept_state(self._graph)
        self.assumed = ""
        for kind, values in (("input", self.inputs), ("output", self.outputs)):
            for value in values:
                if not isinstance(value.type, TensorType) or value.type.dtype not in SUPPORTED_TYPES:
                    raise UnsupportedError(
                        f"{self.label}: the {kind} '{value.name}' is {value.type}, which a C program cannot pass; "
                        "tensors of whole bytes can be"
                    )

    def signatures(self, given: Sequence[Shapes]) -> list[Signature]:
        """The plans for each of the signatures.

        Raises:
            UsageError, InputError: for shapes that mean nothing, or do not fit.
            UnsupportedError: naming what no library can be made of, and why.
        """
        constants = own_constants(self._graph, self._registry, self.label)
        pool = DevicePool(
            select_devices(
                self._registry,
                [DEVICE],
                options=self._options,
                strict=True,
                graph=self._graph,
                model=self.label,
                for_execution=False,
            )
        )
        try:
            model = PreparedModel(self._graph, self.label)
            planner = Planner(
                label=self.label,
                pool=pool,
                compile_with=_compile,
                resolve=model.resolve,
                remembered=RememberedPlacements(model, pool, strict=True),
                pin=lambda node: None,
                strict=True,
                capacity=1,
                opset_imports=self._graph.opset_imports,
                is_told=False,
                constants=constants,
            )

            def place(types: Mapping[Value, ValueType], trace: Trace | None) -> tuple[Stage, PlacedStage]:
                return self._placed(planner, types, trace)

            maker = VariantMaker(self.label, self.inputs, self.outputs, place)
            found: list[Signature] = []
            for shapes in given or [{}]:
                settled = self._settled(shapes)
                found.append(maker.make(settled, sum(len(signature.variants) for signature in found)))
        finally:
            pool.release()
            if constants is not None:
                constants.close()
        for signature in found[1:]:
            if list(map(len, signature.shapes)) != list(map(len, found[0].shapes)):
                raise UsageError(
                    f"{self.label}: the signatures of a library give each input the same number of dimensions"
                )
            if len(signature.largest_outputs) != len(found[0].largest_outputs):
                raise UnsupportedError(f"{self.label}: an output has another number of dimensions in each signature")
        return found

    def _placed(
        self, planner: Planner, types: Mapping[Value, ValueType], trace: Trace | None
    ) -> tuple[Stage, PlacedStage]:
        """
        Raises:
            UnsupportedError: where some node cannot be in a library.
        """
        try:
            stage, placed = planner.placed(self._graph, types, {}, trace)
        except StrictPlacementError as error:
            raise self._refusal(error) from error
        try:
            self._check(stage, placed)
        except BaseException:
            placed.close()
            raise
        return stage, placed

    def _refusal(self, error: StrictPlacementError) -> UnsupportedError:
        """What stands against a library, where nodes cannot be placed: the first of them, and how many more."""
        reasons = {node: next(iter(each.values()), "") for node, each in error.unplaced.items()}
        first, reason = next(iter(reasons.items()), ("", str(error)))
        found = next((node for node in self._graph.nodes if node.name == first), None)
        what = f"node '{first}' (in a nested graph)" if found is None else self._named(found)
        others = f"; so it is with {len(reasons) - 1} more" if len(reasons) > 1 else ""
        return UnsupportedError(
            f"{self.label}: {what} cannot be in a library: {reason}{others}; take it out of the "
            "model, or run it with a session",
            node=first,
        )

    def _named(self, node: Node) -> str:
        """A node as messages call it, with the layer of the author's model where the file tells."""
        origin = self._graph.origin_of(node)
        return f"node '{node.name}' ({node.qualified_op}{'' if origin is None else f', {origin}'})"

    def _check(self, stage: Stage, placed: PlacedStage) -> None:
        if stage.rest is not None:
            first = stage.rest.nodes[0]
            raise UnsupportedError(
                f"{self.label}: the shapes of {self._named(first)} depend on what is fed, and a "
                "library plans nothing at run time; build the part before it, or fix the input that decides them "
                "(`--set NAME=VALUE`)",
            )
        for part in placed.partitioning.partitions:
            if part.device.partition(":")[0] != DEVICE:
                node = part.nodes[0]
                is_decided = node.op_type == "If"
                way = "fix the input that decides it (`--set NAME=VALUE`)" if is_decided else "take it out of the model"
                raise UnsupportedError(
                    f"{self.label}: {self._named(node)} has no native code here, "
                    f"{placed.partitioning.placements[node].reason}; {way}, or run it with a session"
                )
        if len(placed.compiled) > 1:
            raise UnsupportedError(f"{self.label}: the model comes apart into {len(placed.compiled)} pieces")

    def _settled(self, shapes: Shapes) -> list[ShapeRange]:
        """A shape for every input; usual sizes where nobody gives them.

        Raises:
            UsageError, InputError: for shapes that do not fit.
        """
        from mace_core.operators import resolve

        given = {name: tuple(checked_size(size) for size in shape) for name, shape in shapes.items()}
        largest = {
            name: tuple(size.largest if isinstance(size, SizeRange) else size for size in shape)
            for name, shape in given.items()
        }
        candidates = assumed_shapes(self.inputs, given_shapes(self.inputs, largest, self.label))

        def attempt(tried: Mapping[str, tuple[int, ...]]) -> None:
            resolve(self._graph, types_from_shapes(self.inputs, tried, self.label))

        found = first_taken(candidates, attempt, model=self.label)
        self.assumed = found.note
        settled = []
        for value in self.inputs:
            shape: ShapeRange = given.get(value.name, found.shapes[value.name])
            declared = value.type.shape if isinstance(value.type, TensorType) else None
            for axis, size in enumerate(shape):
                if declared is not None and isinstance(size, SizeRange) and isinstance(declared[axis], int):
                    raise InputError(
                        f"{self.label}: dimension {axis} of the input '{value.name}' is {declared[axis]} in the model, "
                        f"and cannot be {size} (given: {shape_text(shape)})"
                    )
            settled.append(shape)
        return settled


def _compile(device: SessionDevice, views: Sequence[GraphView]) -> list[CompiledSubgraph]:
    return compile_views(device, views)
