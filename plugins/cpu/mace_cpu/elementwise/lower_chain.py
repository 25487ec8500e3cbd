"""Growing one kernel out of as many elementwise nodes as can be computed together.

Starting from a node, any user of a value already computed in the kernel joins it if its result has the same shape and
its other operands are ready.  Values that somebody else needs are stored, all others stay in registers.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from mace_core.graph import Node, Value
from mace_core.native.source import KernelSource
from mace_core.symbolic import is_same, is_symbolic, minimum
from mace_core.tensor import DType
from mace_cpu.elementwise.expression import Expression, Operation, stride_word
from mace_cpu.elementwise.operands import aligned, collapse, fits, loop_shape, place
from mace_cpu.shared.codegen.generated import generated
from mace_cpu.shared.parts.buffers import Layout, element_bytes
from mace_cpu.shared.parts.facts import are_same
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.registry import Check, lowers

MOST_OPERATIONS = 24
MOST_INPUTS = 10
LONGEST_ROW = 8192
SEGMENT = 4096

_WORK = {"exp": 8, "log": 10, "erf": 12, "tanh": 10, "sigmoid": 10, "sin": 12, "cos": 12, "gelu": 14, "gelu_tanh": 12}
_WORK.update({"silu": 10, "swish": 10, "mish": 10, "softplus": 18, "elu": 8, "selu": 8, "celu": 10, "pow": 100})
_WORK.update({"fmod": 50, "mod": 50, "div": 3, "tan": 80, "asin": 50, "acos": 50, "atan": 50})

Translate = Callable[["Chain", Node], int]
Operands = Callable[[Program, Node], list[Value]]


class Chain:
    """An expression under construction.

    Attributes:
        program: where the kernel call will be emitted.
        shape: of every value computed in the kernel.
        layout: of every full-size operand and result.
    """

    def __init__(self, program: Program, node: Node) -> None:
        result = node.outputs[0]
        assert result is not None
        self.program = program
        self.shape = program.facts.shape(result)
        self.layout = _best_layout(program, node, self.shape)
        self._inputs: list[Value] = []
        self._operations: list[Operation] = []
        self._references: dict[Value, int] = {}
        self._nodes: list[Node] = []

    # --- used by translations -------------------------------------------------------------------------------------

    def read(self, value: Value | None) -> int:
        """A reference to the elements of ``value``: computed in this kernel, or read from memory."""
        assert value is not None
        if value not in self._references:
            self._inputs.append(value)
            self._references[value] = ~(len(self._inputs) - 1)
        return self._references[value]

    def dtype(self, reference: int) -> str:
        """The element type behind a reference."""
        if reference >= 0:
            return self._operations[reference].dtype
        return self.program.facts.dtype(self._inputs[~reference]).label

    def apply(
        self,
        name: str,
        *arguments: int,
        dtype: str | None = None,
        parameters: tuple[float | int | str | None, ...] = (),
    ) -> int:
        """A reference to the result of an operation; its type is that of the first argument unless told."""
        found = dtype if dtype is not None else self.dtype(arguments[0])
        self._operations.append(Operation(name, arguments, found, parameters))
        return len(self._operations) - 1

    def cast(self, reference: int, dtype: str, *options: int | str) -> int:
        """A reference to the same elements as another type; ``options`` as for `elementwise_types.cast`."""
        if self.dtype(reference) == dtype:
            return reference
        return self.apply("cast", reference, dtype=dtype, parameters=(dtype, *options))

    # --- growing --------------------------------------------------------------------------------------------------

    def add(self, node: Node, translate: Translate) -> None:
        """Compute ``node`` in this kernel."""
        result = node.outputs[0]
        assert result is not None
        self._references[result] = translate(self, node)
        self._nodes.append(node)

    def grow(self, find: Callable[[Node], Translate | None]) -> None:
        """Take in users, and users of users, as long as there are any that fit."""
        at = 0
        while at < len(self._nodes):
            value = self._nodes[at].outputs[0]
            joined = False
            for user in self.program.facts.view.users(value) if value is not None else ():
                translate = find(user)
                if translate is not None and self._can_join(user):
                    self.program.fusion.fuse(user)
                    self.add(user, translate)
                    joined = True
            # a node that joined may have made another user of an earlier value possible (x * sigmoid(x))
            at = 0 if joined else at + 1

    def _can_join(self, node: Node) -> bool:
        program = self.program
        result = node.outputs[0]
        if not program.fusion.is_free(node) or result is None or any(o is not None for o in node.outputs[1:]):
            return False
        if len(self._operations) >= MOST_OPERATIONS or not are_same(program.facts.shape(result), self.shape):
            return False
        if self.layout is Layout.BLOCKED and program.facts.dtype(result) is not DType.FLOAT32:
            return False
        others = [v for v in _operands(program, node) if v not in self._references]
        if len(self._inputs) + len(others) > MOST_INPUTS:
            return False
        return all(program.values.is_ready(v) and fits(program, v, self.shape, self.layout) for v in others)

    # --- emission -------------------------------------------------------------------------------------------------

    def emit(self) -> None:
        """Emit the kernel call and see that every value needed elsewhere is held by the program."""
        stored = self._stored()
        kept = self._used_operations(stored)
        if kept:
            self._emit_kernel(stored, kept)
        self._alias_the_rest()

    def _needed(self) -> list[Value]:
        """Results of this kernel's nodes that other nodes, or the outside, read."""
        program, facts = self.program, self.program.facts
        results = [node.outputs[0] for node in self._nodes]
        return [
            value
            for value in results
            if value is not None
            and (
                facts.view.is_output(value) or any(not program.fusion.is_done(user) for user in facts.view.users(value))
            )
        ]

    def _stored(self) -> dict[int, Value]:
        """One value for each operation whose result must be stored."""
        stored: dict[int, Value] = {}
        for value in self._needed():
            reference = self._references[value]
            if reference >= 0:
                stored.setdefault(reference, value)
        return stored

    def _used_operations(self, stored: dict[int, Value]) -> list[int]:
        """Operations that stored results depend on, in order."""
        used: set[int] = set()
        pending = list(stored)
        while pending:
            index = pending.pop()
            if index not in used:
                used.add(index)
                pending.extend(a for a in self._operations[index].arguments if a >= 0)
        return sorted(used)

    def _emit_kernel(self, stored: dict[int, Value], kept: list[int]) -> None:
        program = self.program
        renumbered = {old: new for new, old in enumerate(kept)}
        operations = [self._operations[i] for i in kept]
        used = sorted({a for operation in operations for a in operation.arguments if a < 0}, reverse=True)
        renumbered.update({old: ~new for new, old in enumerate(used)})
        inputs = [self._inputs[~a] for a in used]
        placed = [place(program, value, self.shape, self.layout) for value in inputs]
        shape = loop_shape(program, self.shape, self.layout)
        rows = collapse(
            shape,
            [strides for _, strides in placed],
            [element_bytes(program.facts.dtype(value)) for value in inputs],
            program.settings.block if self.layout is Layout.BLOCKED else 0,
        )
        expression = Expression(
            tuple((program.facts.dtype(value).label, how) for value, how in zip(inputs, rows.reads, strict=True)),
            tuple(
                Operation(o.name, tuple(renumbered[a] for a in o.arguments), o.dtype, o.parameters) for o in operations
            ),
            tuple(renumbered[index] for index in stored),
            len(rows.outer),
            rows.block,
        )
        results = [program.values.write(value, self.layout) for value in stored.values()]
        if is_symbolic(rows.length):  # any length is right
            segment = minimum(rows.length, SEGMENT)
        else:
            segment = rows.length if rows.length <= LONGEST_ROW else SEGMENT
        segments = -(-rows.length // segment) if segment else 0
        program.steps.emit(
            elementwise_kernel(expression),
            {
                "length": rows.length,
                "segment": segment,
                "segments": segments,
                "outer": rows.outer,
                "outputs": results,
                "inputs": [buf for buf, _ in placed],
                **{stride_word(index): strides for index, strides in enumerate(rows.strides)},
            },
            extent=math.prod(rows.outer) * segments,
            work=math.prod(shape) * sum(_WORK.get(o.name, 1) for o in operations),
        )

    def _alias_the_rest(self) -> None:
        """Values that are the same as another one share its buffer."""
        program = self.program
        holders: dict[int, Value] = {}
        for value in self._needed():
            reference = self._references[value]
            if reference < 0:
                source = self._inputs[~reference]
                layout = Layout.BLOCKED if program.values.has(source, Layout.BLOCKED) else Layout.PLAIN
                program.values.alias(value, program.values.read(source, layout), layout)
            elif reference in holders:
                program.values.alias(value, program.values.read(holders[reference], self.layout), self.layout)
            else:
                holders[reference] = value


def _best_layout(program: Program, node: Node, shape: tuple[int, ...]) -> Layout:
    """BLOCKED where an operand of full size lies so and all others fit; PLAIN otherwise."""
    inputs = _operands(program, node)
    result = node.outputs[0]
    assert result is not None
    if len(shape) < 2 or program.facts.dtype(result) is not DType.FLOAT32:
        return Layout.PLAIN
    blocked = [program.facts.shape(v) for v in inputs if program.values.has(v, Layout.BLOCKED)]
    if not any(are_same(own, shape) for own in blocked):
        return Layout.PLAIN
    if any(_is_of_pixels(program.facts.shape(v), shape) for v in inputs) and all(
        program.values.has(v, Layout.PLAIN) for v in inputs
    ):
        return Layout.PLAIN  # numbers of pixels would have to be spread over blocks of channels, one by one
    if all(fits(program, v, shape, Layout.BLOCKED) for v in inputs):
        return Layout.BLOCKED
    return Layout.PLAIN


def _is_of_pixels(own: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether an operand has one number for each pixel, the same for all channels."""
    own = aligned(own, len(shape))
    return is_same(own[1], 1) and not is_same(shape[1], 1) and not all(is_same(size, 1) for size in own[2:])


# --- the table of translations ----------------------------------------------------------------------------------------

_TRANSLATIONS: dict[tuple[str, str], Translate] = {}
_OPERANDS: dict[tuple[str, str], Operands] = {}


def elementwise(
    *op_types: str, check: Check, domain: str = "", operands: Operands | None = None
) -> Callable[[Translate], Translate]:
    """Register the decorated function: it adds an operator to a `Chain`, gives the result's reference.

    The operators are lowered by fusions that start at them, and may join fusions that start before them.
    ``operands`` tells what a kernel reads where that is not simply the node's inputs.
    """

    def register(translate: Translate) -> Translate:
        def lower(program: Program, node: Node) -> None:
            chain = Chain(program, node)
            chain.add(node, translate)
            chain.grow(_find_translation)
            chain.emit()

        joins(*op_types, domain=domain)(translate)
        if operands is not None:
            _OPERANDS.update({(domain, op_type): operands for op_type in op_types})
        lowers(*op_types, check=check, domain=domain)(lower)
        return translate

    return register


def joins(*op_types: str, domain: str = "") -> Callable[[Translate], Translate]:
    """Register a translation for operators that have a lowering of their own but may join fusions, too."""

    def register(translate: Translate) -> Translate:
        for op_type in op_types:
            _TRANSLATIONS[domain, op_type] = translate
        return translate

    return register


def _find_translation(node: Node) -> Translate | None:
    return _TRANSLATIONS.get((node.domain, node.op_type))


def _operands(program: Program, node: Node) -> list[Value]:
    """The values a kernel for ``node`` reads."""
    found = _OPERANDS.get((node.domain, node.op_type))
    return [v for v in node.inputs if v is not None] if found is None else found(program, node)


def elementwise_kernel(expression: Expression) -> KernelSource:
    """The kernel that computes ``expression``."""
    return generated("mace_cpu.elementwise.generate", expression.symbol, expression, words=lambda: expression.words)
