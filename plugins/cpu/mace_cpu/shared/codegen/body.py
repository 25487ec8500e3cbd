"""The body of one generated kernel: a thin layer over llvmlite that knows the kernel ABI, loops and vectors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

from mace_core.native.compiler import HAND_MADE
from mace_core.native.poll_ir import Control
from mace_cpu.shared.codegen.vector_basic import allow_features, may_use_module

I1, I8, I32, I64 = ir.IntType(1), ir.IntType(8), ir.IntType(32), ir.IntType(64)
F32 = ir.FloatType()
POINTER = ir.PointerType()
VOID = ir.VoidType()

FLOAT_BYTES = 4
CACHE_LINE_FLOATS = 16
LANES_TOGETHER = 4
"""Factors in a vector of 128 bits."""


def constant(value: int) -> ir.Constant:
    """A 64-bit integer constant."""
    return ir.Constant(I64, value)


class Body:
    """One kernel ``void symbol(i64* args, i64 begin, i64 end, i64 chunk)`` while its code is emitted.

    Args:
        features: instruction sets that the functions of ``vector_math`` may use.

    Attributes:
        b: the llvmlite builder, placed where code goes next.
        lanes: floats per vector.
        vector: the vector type ``<lanes x float>``.
        takes_lanes: whether the target multiplies by one lane of a vector and has 32 of them (aarch64): then
            `LANES_TOGETHER` factors are loaded at once, where otherwise each is loaded into all lanes.
    """

    def __init__(self, symbol: str, lanes: int, features: Iterable[str] = ()) -> None:
        self.module = ir.Module(name=symbol)
        allow_features(self.module, features)
        kind = ir.FunctionType(VOID, [POINTER, I64, I64, I64])
        self.function = ir.Function(self.module, kind, symbol)
        for argument, name in zip(self.function.args, ("args", "begin", "end", "chunk"), strict=True):
            argument.name = name
        self.args, self.begin, self.end, self.chunk = self.function.args
        self.entry = self.function.append_basic_block("entry")
        self.b = ir.IRBuilder(self.entry)
        self.lanes = lanes
        self.takes_lanes = all(may_use_module(self.module, name) for name in ("neon", "fp-armv8"))
        self.vector = ir.VectorType(F32, lanes)
        self._no_unroll = self.module.add_metadata([self.module.add_metadata(["llvm.loop.unroll.disable"])])

    def text(self) -> str:
        """The module's IR.  The function must be complete but for its return."""
        self.b.ret_void()
        name = self._no_unroll.get_reference()
        operand = self._no_unroll.operands[0].get_reference()
        # a loop's metadata has to name itself first, which llvmlite cannot write
        plain = f"{name} = !{{ {operand} }}"
        text = str(self.module)
        if plain not in text:
            raise ValueError("the loop metadata is not written as expected")
        return HAND_MADE + text.replace(plain, f"{name} = distinct !{{ {name}, {operand} }}")

    # --- arguments ------------------------------------------------------------------------------------------------

    def word(self, index: int) -> ir.Value:
        """Argument word ``index`` as an integer."""
        at = self.b.gep(self.args, [constant(index)], source_etype=I64)
        return self.b.load(at, typ=I64, align=8)

    def pointer(self, index: int) -> ir.Value:
        """Argument word ``index`` as an address."""
        return self.b.inttoptr(self.word(index), POINTER)

    def number(self, index: int) -> ir.Value:
        """Argument word ``index``, the bits of a float64, as a float."""
        return self.b.fptrunc(self.b.bitcast(self.word(index), ir.DoubleType()), F32)

    def return_if_stopped(self) -> None:
        """Leave the kernel, its work undone, if the run is to stop: as ``numba_prelude.stop_requested``.

        Not in kernels that others call: the word before their arguments is not the control block's.
        """
        b = self.b
        block = self.pointer(-1)
        at = b.gep(block, [constant(Control.POLL.value)], source_etype=I64)
        poll = b.inttoptr(b.load(at, typ=I64, align=8), ir.FunctionType(I64, [POINTER]).as_pointer())
        with b.if_then(b.icmp_signed("!=", b.call(poll, [block]), constant(0)), likely=False):
            b.ret_void()

    # --- integers -------------------------------------------------------------------------------------------------

    def mul(self, left: ir.Value, right: ir.Value | int) -> ir.Value:
        return self.b.mul(left, constant(right) if isinstance(right, int) else right, flags=("nsw",))

    def add(self, left: ir.Value, right: ir.Value | int) -> ir.Value:
        return self.b.add(left, constant(right) if isinstance(right, int) else right, flags=("nsw",))

    def sub(self, left: ir.Value, right: ir.Value) -> ir.Value:
        return self.b.sub(left, right, flags=("nsw",))

    def less(self, left: ir.Value, right: ir.Value | int) -> ir.Value:
        return self.b.icmp_signed("<", left, constant(right) if isinstance(right, int) else right)

    def minimum(self, left: ir.Value, right: ir.Value) -> ir.Value:
        return self.b.select(self.b.icmp_signed("<", left, right), left, right)

    def maximum(self, left: ir.Value, right: ir.Value) -> ir.Value:
        return self.b.select(self.b.icmp_signed(">", left, right), left, right)

    def divide(self, left: ir.Value, right: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Quotient and remainder of two non-negative integers."""
        quotient = self.b.udiv(left, right)
        return quotient, self.sub(left, self.b.mul(quotient, right))

    # --- memory ---------------------------------------------------------------------------------------------------

    def floats(self, base: ir.Value, index: ir.Value | int) -> ir.Value:
        """The address of ``base[index]`` in floats."""
        at = constant(index) if isinstance(index, int) else index
        return self.b.gep(base, [at], inbounds=True, source_etype=F32)

    def table_entry(self, table: ir.Value, index: ir.Value) -> ir.Value:
        """Entry ``index`` of a table of 64-bit integers."""
        return self.b.load(self.b.gep(table, [index], inbounds=True, source_etype=I64), typ=I64, align=8)

    def load(self, at: ir.Value) -> ir.Value:
        """A whole vector, aligned to floats only."""
        return self.b.load(at, typ=self.vector, align=FLOAT_BYTES)

    def load_factors(self, at: ir.Value) -> ir.Value:
        """`LANES_TOGETHER` floats, for `lane`."""
        return self.b.load(at, typ=ir.VectorType(F32, LANES_TOGETHER), align=FLOAT_BYTES)

    def lane(self, factors: ir.Value, number: int) -> ir.Value:
        """One of the factors in every lane; no instruction of its own where the target `takes_lanes`."""
        return self.shuffle(factors, ir.Constant(factors.type, ir.Undefined), [number] * self.lanes)

    def store(self, value: ir.Value, at: ir.Value) -> None:
        self.b.store(value, at, align=FLOAT_BYTES)

    def prefetch(self, at: ir.Value) -> None:
        """Ask for the cache line at ``at`` to be brought into the second level cache; any address will do."""
        function = self.declared("llvm.prefetch.p0", ir.FunctionType(VOID, [POINTER, I32, I32, I32]))
        self.b.call(function, [at, ir.Constant(I32, 0), ir.Constant(I32, 2), ir.Constant(I32, 1)])

    def load_some(self, at: ir.Value, count: ir.Value) -> ir.Value:
        """The first ``count`` floats as a vector, zeros behind them; a count below 1 reads nothing."""
        return self.load_where(at, self.first_lanes(count))

    def load_where(self, at: ir.Value, mask: ir.Value) -> ir.Value:
        """The lanes in ``mask`` of the vector at ``at``, zeros elsewhere; only those lanes are read."""
        kind = ir.FunctionType(self.vector, [POINTER, I32, ir.VectorType(I1, self.lanes), self.vector])
        function = self.declared(f"llvm.masked.load.v{self.lanes}f32.p0", kind)
        return self.b.call(function, [at, ir.Constant(I32, FLOAT_BYTES), mask, self.zero()])

    def store_some(self, value: ir.Value, at: ir.Value, count: ir.Value) -> None:
        """Store the first ``count`` lanes; a count below 1 stores nothing."""
        kind = ir.FunctionType(VOID, [self.vector, POINTER, I32, ir.VectorType(I1, self.lanes)])
        function = self.declared(f"llvm.masked.store.v{self.lanes}f32.p0", kind)
        self.b.call(function, [value, at, ir.Constant(I32, FLOAT_BYTES), self.first_lanes(count)])

    def first_lanes(self, count: ir.Value) -> ir.Value:
        """A mask of the first ``count`` lanes."""
        kind = ir.VectorType(I32, self.lanes)
        narrow = self.b.trunc(self.maximum(self.minimum(count, constant(self.lanes)), constant(0)), I32)
        first = self.b.insert_element(ir.Constant(kind, ir.Undefined), narrow, ir.Constant(I32, 0))
        everywhere = self.b.shuffle_vector(first, ir.Constant(kind, ir.Undefined), ir.Constant(kind, None))
        return self.b.icmp_signed("<", ir.Constant(kind, list(range(self.lanes))), everywhere)

    def declared(self, name: str, kind: ir.FunctionType) -> ir.Function:
        """The intrinsic of that name, declared once."""
        found = self.module.globals.get(name)
        return ir.Function(self.module, kind, name) if found is None else found

    def load_scalar(self, at: ir.Value) -> ir.Value:
        return self.b.load(at, typ=F32, align=FLOAT_BYTES)

    def splat(self, scalar: ir.Value) -> ir.Value:
        """A vector with ``scalar`` in every lane."""
        undefined = ir.Constant(self.vector, ir.Undefined)
        first = self.b.insert_element(undefined, scalar, ir.Constant(I32, 0))
        mask = ir.Constant(ir.VectorType(I32, self.lanes), None)
        return self.b.shuffle_vector(first, undefined, mask)

    def zero(self) -> ir.Constant:
        return ir.Constant(self.vector, None)

    def shuffle(self, left: ir.Value, right: ir.Value, lanes: Sequence[int]) -> ir.Value:
        mask = ir.Constant(ir.VectorType(I32, len(lanes)), [ir.Constant(I32, lane) for lane in lanes])
        return self.b.shuffle_vector(left, right, mask)

    def multiply_add(self, left: ir.Value, right: ir.Value, addend: ir.Value) -> ir.Value:
        """``left * right + addend``: one fused operation where the target has it."""
        kind = ir.FunctionType(self.vector, [self.vector] * 3)
        function = self.declared(f"llvm.fmuladd.v{self.lanes}f32", kind)
        return self.b.call(function, [left, right, addend])

    def variable(self, kind: ir.Type) -> ir.Value:
        """A local variable (promoted to a register by LLVM), made in the entry block."""
        with self.b.goto_entry_block():
            return self.b.alloca(kind)

    def memory(self, kind: ir.Type) -> ir.Value:
        """The address of local memory for a value of ``kind``."""
        with self.b.goto_entry_block():
            place = self.b.alloca(kind)
        place.type = POINTER  # llvmlite gives a typed pointer, with which addresses inside cannot be computed
        return place

    # --- control --------------------------------------------------------------------------------------------------

    @contextmanager
    def loop(self, start: ir.Value | int, stop: ir.Value, step: ir.Value | int = 1) -> Iterator[ir.Value]:
        """``for index in range(start, stop, step)``; LLVM does not unroll it further."""
        first = constant(start) if isinstance(start, int) else start
        by = constant(step) if isinstance(step, int) else step
        before = self.b.block
        inside = self.b.append_basic_block("loop")
        after = self.b.append_basic_block("after")
        self.b.cbranch(self.b.icmp_signed("<", first, stop), inside, after)
        self.b.position_at_end(inside)
        index = self.b.phi(I64)
        index.add_incoming(first, before)
        yield index
        following = self.add(index, by)
        index.add_incoming(following, self.b.block)
        again: Any = self.b.cbranch(self.b.icmp_signed("<", following, stop), inside, after)
        again.set_metadata("llvm.loop", self._no_unroll)
        self.b.position_at_end(after)
