"""What shape arithmetic computes from sizes that are not decided is, for every size, what it computes from numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest

from mace_core.frontend.load import load_model
from mace_core.operators import resolve
from mace_core.symbolic import SizeProgramBuilder, Trace, new_symbol, polynomial_of
from mace_core.tensor import DType, TensorType
from mace_core.tensor.symbolic import SymbolicTensor

HOLDS = {"==": lambda value: value == 0, "<": lambda value: value < 0}

AT = (7, 12)
OTHERS = [(2, 2), (3, 40), (7, 13), (8, 12), (50, 31), (4099, 1023), (12, 7), (1 << 20, (1 << 20) - 1)]

CHAINS = {
    "remainders rounded down": "a = Sub (n, m)  y = Mod (a, five)",
    "remainders of negative numbers rounded towards zero": "a = Sub (n, m)  y = Mod <fmod = 1> (a, five)",
    "remainders by negative numbers": "a = Neg (five)  b = Mod (n, a)  c = Mod <fmod = 1> (n, a)  y = Add (b, c)",
    "remainders by sizes": "y = Mod <fmod = 1> (five, m)",
    "quotients of negative numbers": "a = Sub (n, m)  y = Div (a, five)",
    "the smaller, the larger and between": "a = Min (n, m)  b = Max (n, five)  c = Sub (b, a)  y = Clip (c, two, m)",
    "signs and what is above zero": "a = Sub (n, five)  b = Sign (a)  c = Relu (a)  y = Add (b, c)",
    "half, rounded up": "f = Cast <to = 1> (n)  h = Mul (f, half)  u = Ceil (h)  y = Cast <to = 7> (u)",
    "half, rounded down": "f = Cast <to = 1> (n)  h = Mul (f, half)  u = Floor (h)  y = Cast <to = 7> (u)",
    "a third, rounded up": "f = Cast <to = 1> (n)  h = Div (f, three)  u = Ceil (h)  y = Cast <to = 7> (u)",
    "a third, cut": "f = Cast <to = 11> (n)  d = Cast <to = 11> (three)  h = Div (f, d)  y = Cast <to = 7> (h)",
    "twice and a half more": "f = Cast <to = 1> (n)  d = Div (f, half)  e = Add (d, half)  y = Cast <to = 7> (e)",
    "a condition on floats": "f = Cast <to = 1> (n)  g = Cast <to = 1> (m)  c = Less (f, g)  y = Where (c, n, m)",
    "running sums": "s = Concat <axis = 0> (n, m, five)  zero = Sub (five, five)  y = CumSum (s, zero)",
    "scattered": "s = Concat <axis = 0> (n, five)  i = Constant <value = int64[1, 1] {1}> ()  y = ScatterND (s, i, m)",
    "gathered": "s = Concat <axis = 0> (n, m)  i = Constant <value_ints = [1, 0]> ()  y = GatherElements (s, i)",
    "a range of three": "a = Squeeze (n)  t = Squeeze (two)  b = Add (a, five0)  y = Range (a, b, t)",
    "products": "s = Concat <axis = 0> (n, m, two)  y = ReduceProd (s)",
}


def model(chain: str) -> onnx.ModelProto:
    text = f"""
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[n, m] x) => (int64[k] y) {{
            shape = Shape (x)
            zero_ = Constant <value_ints = [0]> ()
            one_ = Constant <value_ints = [1]> ()
            two = Constant <value_ints = [2]> ()
            five = Constant <value_ints = [5]> ()
            five0 = Constant <value = int64 {{5}}> ()
            half = Constant <value_floats = [0.5]> ()
            three = Constant <value_floats = [3.0]> ()
            n = Gather (shape, zero_)
            m = Gather (shape, one_)
            {chain.replace("  ", chr(10))}
        }}"""
    return onnx.parser.parse_model(text)


def concrete_content(chain: str, sizes: Sequence[int]) -> list[int]:
    graph = load_model(model(chain))
    found = resolve(graph, {graph.inputs[0]: TensorType(DType.FLOAT32, tuple(sizes))})
    return [int(item) for item in found.known[graph.outputs[0]].numpy().reshape(-1)]


@pytest.mark.parametrize("name", CHAINS)
def test_contents_are_those_of_numbers(name: str) -> None:
    graph, trace = load_model(model(CHAINS[name])), Trace()
    shape = tuple(new_symbol(trace, name, size) for name, size in zip("nm", AT, strict=True))
    known = resolve(graph, {graph.inputs[0]: TensorType(DType.FLOAT32, shape)}).known
    content = known[graph.outputs[0]]
    assert isinstance(content, SymbolicTensor), "known, and not only for the sizes at hand"
    builder = SizeProgramBuilder(trace)
    registers = [builder.register(polynomial_of(item)) for item in content.tolist()]
    guards = [(builder.register(g.expression), g.relation, g.outcome) for g in trace.guards.values()]
    program = builder.finish()
    admitted = 0
    for sizes in (AT, *OTHERS):
        values: list[Any] = program.run(sizes)
        if all(HOLDS[relation](values[register]) is outcome for register, relation, outcome in guards):
            assert [values[register] for register in registers] == concrete_content(CHAINS[name], sizes), sizes
            admitted += 1
    assert admitted >= 3, "one trace serves many sizes"


def test_a_float_that_may_be_rounded_is_left_to_the_run() -> None:
    """A tenth is no float: whether a product with it is just below a whole number is not known."""
    graph, trace = load_model(model("f = Cast <to = 1> (n)  t = Constant <value_floats = [0.1]> ()  h = Mul (f, t)  "
                                    "u = Floor (h)  y = Cast <to = 7> (u)")), Trace()  # fmt: skip
    found = resolve(graph, {graph.inputs[0]: TensorType(DType.FLOAT32, (new_symbol(trace, "n", 7), 12))})
    assert graph.outputs[0] not in found.known


@pytest.mark.parametrize("divisor", [3, 5, 7, 12, 1000])
def test_rounding_a_quotient_never_reaches_a_whole_number(divisor: int) -> None:
    """What `SymbolicQuotient` relies on, for the numbers next to multiples, where it is closest."""
    whole = np.arange(1, (1 << 24) // divisor, 97, dtype=np.int64)
    for near in (-1, 0, 1):
        number = whole * divisor + near
        number = number[number + divisor < 1 << 24]
        quotient = number.astype(np.float32) / np.float32(divisor)
        assert (np.floor(quotient).astype(np.int64) == number // divisor).all()
        assert (np.ceil(quotient).astype(np.int64) == -(-number // divisor)).all()
