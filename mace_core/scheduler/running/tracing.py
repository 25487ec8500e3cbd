"""A signature whose numbers are symbols, as far as they vary."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from mace_core.graph import Value
from mace_core.scheduler.planning.signatures import is_numbers
from mace_core.symbolic import Trace, new_symbol
from mace_core.symbolic.trace import LARGEST_SIZE, SMALLEST_SIZE
from mace_core.tensor import Dim, Tensor, TensorType, ValueType
from mace_core.tensor.symbolic import SymbolicTensor, as_objects


class TracedSignature(NamedTuple):
    """Where a trace begins.

    Attributes:
        trace: with its symbols.
        symbols: for each symbol the positions, among the numbers of the signature, of those that it stands for.
        types, fixed: of the feeds, as they were, with the symbols.
    """

    trace: Trace
    symbols: tuple[tuple[int, ...], ...]
    types: dict[Value, ValueType]
    fixed: dict[Value, Tensor]


def traced(
    feeds: Sequence[Value],
    contents: Sequence[Value],
    types: Mapping[Value, ValueType],
    fixed: Mapping[Value, Tensor],
    varied: Collection[int],
) -> TracedSignature:
    """Symbols in the place of the numbers at the positions ``varied``, which are counted as `Structures` counts them.

    Dimensions that the model gives one name, and that are equal now, are one symbol.  Sizes of 0 and 1 stay numbers:
    broadcasting and empty tensors change what a graph means.

    Args:
        feeds: values fed, in order.
        contents: those of them whose content decides shapes.
        types, fixed: of this signature, in numbers.
        varied: positions, first of the sizes of all feeds, then of the elements of ``contents``.
    """
    trace = Trace()
    symbols: list[list[int]] = []
    named: dict[tuple[str, int], tuple[int, list[int]]] = {}
    symbolic_types, symbolic_fixed = dict(types), dict(fixed)
    position = 0
    for feed in feeds:
        found = types.get(feed)
        if not isinstance(found, TensorType) or not found.is_concrete:
            continue
        shape: list[int] = []
        for axis, size in enumerate(found.concrete_shape):
            declared = _declared(feed, axis)
            may_vary = position in varied and not isinstance(declared, int)
            if may_vary and SMALLEST_SIZE <= size <= LARGEST_SIZE:
                name = declared if isinstance(declared, str) else ""
                if (name, size) in named:
                    symbol, positions = named[name, size]
                    positions.append(position)
                else:
                    symbol, positions = new_symbol(trace, name or f"{feed.name}.{axis}", size), [position]
                    symbols.append(positions)
                    if name:
                        named[name, size] = symbol, positions
                shape.append(symbol)
            else:
                shape.append(size)
            position += 1
        symbolic_types[feed] = TensorType(found.dtype, tuple(shape))
    for feed in contents:
        tensor = fixed.get(feed)
        if tensor is None or not is_numbers(tensor):
            continue
        items: list[int] = []
        has_symbol = False
        for index, item in enumerate(tensor.tolist()):
            if position in varied and abs(item) <= LARGEST_SIZE:
                symbols.append([position])
                low, high = (0, LARGEST_SIZE) if item >= 0 else (-LARGEST_SIZE, -1)
                items.append(new_symbol(trace, f"{feed.name}[{index}]", item, low, high))
                has_symbol = True
            else:
                items.append(item)
            position += 1
        if has_symbol:
            symbolic_fixed[feed] = SymbolicTensor(tensor.dtype, as_objects(items, tensor.shape))
    return TracedSignature(trace, tuple(map(tuple, symbols)), symbolic_types, symbolic_fixed)


def _declared(feed: Value, axis: int) -> Dim:
    """The size of a dimension that the model declares, or what it calls it; None where it has no name."""
    declared = feed.type.shape if isinstance(feed.type, TensorType) else None
    return declared[axis] if declared is not None and axis < len(declared) else None
