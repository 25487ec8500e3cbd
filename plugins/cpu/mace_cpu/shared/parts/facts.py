"""What is known of a subgraph's values before anything is computed, and for whom code is generated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from mace_core.graph import GraphView, Value
from mace_core.native.target import Target
from mace_core.symbolic import is_same, settled
from mace_core.tensor import DType
from mace_core.tensor.symbolic import SymbolicTensor
from mace_cpu.shared.parts.buffers import Layout, element_bytes
from mace_cpu.shared.precision import PairUnit
from mace_cpu.shared.quads import QuadUnit


@dataclass(frozen=True, slots=True)
class Settings:
    """What all subgraphs of a backend are compiled for.

    Attributes:
        target: instruction set to generate for.
        threads: threads the plan will run on (work is split at compile time).
        winograd: whether convolutions may be computed by Winograd's method.
        bfloat16: the unit that multiplies pairs of bfloat16 where that pays; None: all is float32.
        byte_tiles: the unit that multiplies tiles of bytes where that pays; None: vectors do it.
        integers: whether what stands between DequantizeLinear and QuantizeLinear is computed in integers.
    """

    target: Target
    threads: int = 1
    winograd: bool = True
    pair_unit: PairUnit | None = None
    integers: bool = True
    byte_tiles: QuadUnit | None = None

    @property
    def block(self) -> int:
        """Channels per block of the BLOCKED layout."""
        return 16 if self.target.vector_bits >= 512 else 8


class Facts:
    """Types, shapes, sizes and known contents of values.

    Attributes:
        view: the subgraph under its concrete signature.
        block: channels per block of the BLOCKED layout.
    """

    def __init__(self, view: GraphView, block: int) -> None:
        self.view = view
        self.block = block
        self._known: dict[Value, npt.NDArray[Any]] = {}

    def shape(self, value: Value) -> tuple[int, ...]:
        return tuple([settled(size) for size in self.view.shape(value)])

    def have_one_shape(self, first: Value, second: Value) -> bool:
        """Whether two values are known to have the same shape; see `is_same`."""
        return are_same(self.shape(first), self.shape(second))

    def dtype(self, value: Value) -> DType:
        found = self.view.tensor_type(value)
        if found is None:
            raise ValueError(f"'{value.name}' is not a tensor of known type")
        return found.dtype

    def size(self, value: Value) -> int:
        return math.prod(self.shape(value))

    def nbytes(self, value: Value) -> int:
        """Bytes of the value in the PLAIN layout."""
        return element_bytes(self.dtype(value)) * self.size(value)

    def blocked_nbytes(self, value: Value) -> int:
        """Bytes of a float32 value (N, C, ...) in the BLOCKED layout."""
        n, c, *spatial = self.shape(value)
        return 4 * n * -(-c // self.block) * self.block * math.prod(spatial)

    def narrow_nbytes(self, value: Value, layout: Layout) -> int:
        """Bytes of a float32 value in one of the layouts of bfloat16."""
        shape = self.shape(value)
        axis = 1 if layout is Layout.PAIRS else len(shape) - 1
        groups = -(-shape[axis] // (2 * self.block))
        return 4 * self.block * groups * math.prod(shape[:axis]) * math.prod(shape[axis + 1 :])

    def nbytes_in(self, value: Value, layout: Layout) -> int:
        """Bytes of the value in a layout that is not PACKED."""
        if layout in (Layout.PLAIN, Layout.CHANNELS_LAST):
            return self.nbytes(value)
        return self.blocked_nbytes(value) if layout is Layout.BLOCKED else self.narrow_nbytes(value, layout)

    def constant_of(self, value: Value | None) -> npt.NDArray[Any] | None:
        """The content where it is known: initializers, shape arithmetic, and what `know` was told; else None."""
        if value is not None and value in self._known:
            return self._known[value]
        found = self.view.constant(value)
        return None if found is None else found.numpy()

    def sizes_of(self, value: Value | None) -> list[int] | None:
        """The content where it is made of sizes that are not decided."""
        found = self.view.constant(value) if value is not None and value not in self._known else None
        return found.tolist() if isinstance(found, SymbolicTensor) else None

    def know(self, value: Value, content: npt.NDArray[Any]) -> None:
        """``value`` was computed while compiling: it is a constant from now on."""
        self._known[value] = content

    def is_constant(self, value: Value) -> bool:
        return value in self._known or self.view.constant(value) is not None


def are_same(first: Sequence[int], second: Sequence[int]) -> bool:
    """Whether two shapes are known to be equal; see `is_same`."""
    return len(first) == len(second) and all(map(is_same, first, second))
