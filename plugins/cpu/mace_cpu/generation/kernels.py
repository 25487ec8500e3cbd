"""Tensors made from few numbers, and operators along one axis that keep the shape."""

from __future__ import annotations

from typing import Any

import numpy as np

from mace_core.native.numba_prelude import POLL_WORK, Kernel, helper, i64, stop_requested
from mace_cpu.shared.kernels.elements import LOADS, STORES
from mace_cpu.shared.kernels.primitives import POINTERS, SCALARS, WORD_POINTERS, WORD_ZEROS, copy_bytes, quotient

KERNEL_DEPENDENCIES = (
    "mace_cpu.shared.kernels.primitives",
    "mace_cpu.shared.kernels.elements",
    "mace_cpu.shared.codegen.element_types",
    "mace_cpu.shared.codegen.narrow_floats",
    "mace_cpu.shared.codegen.vector_basic",
)

WORDS = {
    "one_hot": "indices values target depth inner",
    "number_range": "start step target",
    "half_range": "start step target",
    "triangle": "source target diagonal rows columns",
    "running": "source target axis status exclusive reverse rank sizes[rank]",
    "reverse_sequence": "source target lengths status first second row_bytes time_axis",
}


def one_hot(index: str, width: str) -> Kernel:
    """The target is (outer, depth, inner); one unit is one outer position."""
    pointer = WORD_POINTERS[width]
    pointer_to_index = POINTERS[index]

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        indices = pointer_to_index(args[0])
        values = pointer(args[1])
        target = pointer(args[2])
        depth = args[3]
        inner = args[4]
        off = values[0]
        on = values[1]
        for unit in range(begin, end):
            first = unit * depth * inner
            for i in range(depth * inner):
                target[first + i] = off
            for i in range(inner):
                at = np.int64(indices[unit * inner + i])
                if at < 0:
                    at += depth
                if 0 <= at < depth:
                    target[first + at * inner + i] = on

    return kernel


def number_range(dtype: str) -> Kernel:
    """``start`` and ``step`` are addresses; one unit is one element."""
    pointer = POINTERS[dtype]
    scalar = SCALARS[dtype]
    floating = dtype in ("float32", "float64")

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        start = pointer(args[0])[0]
        step = pointer(args[1])[0]
        target = pointer(args[2])
        for i in range(begin, end):
            if floating:
                target[i] = scalar(np.float64(start) + i * np.float64(step))
            else:
                target[i] = scalar(start + i * step)

    return kernel


def half_range(dtype: str) -> Kernel:
    """As `number_range` for float16 and bfloat16, computed in float32."""
    load, store = LOADS[dtype], STORES[dtype]

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        start, step, target = load(args[0], 0), load(args[1], 0), args[2]
        for i in range(begin, end):
            store(target, i, np.float32(start + np.float32(i) * step))

    return kernel


def triangle(width: str, part: str) -> Kernel:
    """Keeps the ``upper`` or ``lower`` part; one unit is one row.  ``diagonal`` is the address of its number."""
    pointer = WORD_POINTERS[width]
    zero = WORD_ZEROS[width]
    upper = part == "upper"

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        source = pointer(args[0])
        target = pointer(args[1])
        diagonal = i64(args[2])[0]
        rows = args[3]
        columns = args[4]
        for unit in range(begin, end):
            # the diagonal may be any number: it is compared with, never added to, which could overflow
            row = unit - quotient(unit, rows) * rows
            first = unit * columns
            for column in range(columns):
                keep = column - row >= diagonal if upper else column - row <= diagonal
                target[first + column] = source[first + column] if keep else zero

    return kernel


def _line_runner(dtype: str, operation: str) -> Any:
    """``(source, target, first, length, step, exclusive)``: running results of one line, ``step`` elements apart."""
    scalar = SCALARS[dtype]
    accumulator: Any = np.float64 if dtype in ("float32", "float64") else np.int64
    if dtype in ("uint64", "uint32"):
        accumulator = np.uint64

    product = operation == "product"

    @helper
    def run_line(source: Any, target: Any, first: Any, length: Any, step: Any, exclusive: Any) -> None:
        total = accumulator(1 if product else 0)
        at = first
        for _ in range(length):
            value = accumulator(source[at])
            following = total * value if product else total + value
            target[at] = scalar(total) if exclusive else scalar(following)
            total = following
            at += step

    return run_line


def running(dtype: str, axis: str, operation: str) -> Kernel:
    """Running sums, or products, along an axis.

    The word ``axis`` is an address; what is specialized is the type of the number there, "int32" or "int64".  One unit
    is one tensor of these sizes: the lowering splits off leading axes where it knows that they are not summed along.
    """
    pointer, axis_pointer = POINTERS[dtype], POINTERS[axis]
    run_line = _line_runner(dtype, operation)

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        source, target = pointer(args[0]), pointer(args[1])
        exclusive, reverse, rank = args[4] != 0, args[5] != 0, args[6]
        given = np.int64(axis_pointer(args[2])[0])
        axis = given + rank if given < 0 else given
        if axis < 0 or axis >= rank:
            status = i64(args[3])
            status[0] = 1
            status[1] = given
            return
        length = args[7 + axis]
        inner = 1
        for i in range(axis + 1, rank):
            inner *= args[7 + i]
        lines = inner
        for i in range(axis):
            lines *= args[7 + i]
        # the tensors follow each other, so the lines of all of them can be counted through
        work = 0
        for line in range(begin * lines, end * lines):
            work += length
            if work > POLL_WORK:
                work = 0
                if stop_requested(args):
                    return
            outer = quotient(line, inner)
            first = outer * length * inner + line - outer * inner
            if reverse:
                run_line(source, target, first + (length - 1) * inner, length, -inner, exclusive)
            else:
                run_line(source, target, first, length, inner, exclusive)

    return kernel


def reverse_sequence() -> Kernel:
    """One unit is one (first, second) row."""

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        lengths = i64(args[2])
        second = args[5]
        nbytes = args[6]
        time_first = args[7] == 0
        steps = args[4] if time_first else second
        for unit in range(begin, end):
            outer = quotient(unit, second)
            inner = unit - outer * second
            time = outer if time_first else inner
            batch = inner if time_first else outer
            length = lengths[batch]
            if length < 0 or length > steps:
                status = i64(args[3])
                status[0] = 1
                status[1] = length
                continue
            if time < length:
                time = length - 1 - time
            origin = time * second + batch if time_first else batch * second + time
            copy_bytes(args[1] + unit * nbytes, args[0] + origin * nbytes, nbytes)

    return kernel
