"""Faults put into the example vendor: each as it is made by hand often enough, with the words that tell of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pytest
from acme_npu import program
from acme_npu.program import Command
from acme_npu.units import matrix, windows
from acme_npu.units.registry import LOWERINGS, OPERATORS, Lowered

Array: TypeAlias = Any
Patch: TypeAlias = pytest.MonkeyPatch
Settings: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Mutation:
    """One fault.

    Attributes:
        name: what is wrong.
        operator: whose forms show it.
        apply: puts it into the vendor.
        section: the check that shows it.
        words: what its report says, besides the operator.
    """

    name: str
    operator: str
    apply: Callable[[Patch], None]
    section: str = "forms"
    words: str = ""


def told(operator: str, change: Callable[[Settings], Mapping[str, Any]]) -> Callable[[Patch], None]:
    """The kernel is told something else than the node says."""

    def apply(patch: Patch) -> None:
        right = OPERATORS[operator]
        patch.setitem(OPERATORS, operator, lambda *operands, **given: right(*operands, **change(dict(given))))

    return apply


def computes(operator: str, wrong: Callable[..., Any]) -> Callable[[Patch], None]:
    """The kernel computes something else."""
    return lambda patch: patch.setitem(OPERATORS, operator, wrong)


def given(operator: str, change: Callable[[list[Array]], Sequence[Array]]) -> Callable[[Patch], None]:
    """The kernel is given other operands."""

    def apply(patch: Patch) -> None:
        right = OPERATORS[operator]
        patch.setitem(OPERATORS, operator, lambda *operands, **settings: right(*change(list(operands)), **settings))

    return apply


def gives(operator: str, change: Callable[..., Any]) -> Callable[[Patch], None]:
    """Something is done to the kernel's result: ``change(result, *operands, **settings)``."""

    def apply(patch: Patch) -> None:
        right = OPERATORS[operator]
        patch.setitem(OPERATORS, operator, lambda *operands, **s: change(right(*operands, **s), *operands, **s))

    return apply


def read_as(operator: str, change: Callable[[Any, Any, Lowered], Lowered]) -> Callable[[Patch], None]:
    """The node is misread when it is compiled: ``change(view, node, lowered)``."""

    def apply(patch: Patch) -> None:
        right = LOWERINGS[operator]
        patch.setitem(LOWERINGS, operator, lambda view, node: change(view, node, right(view, node)))

    return apply


def reversed_of(*names: str) -> Callable[[Settings], Settings]:
    return lambda s: {**s, **{name: s[name][::-1] for name in names}}


def constant(**settings: Any) -> Callable[[Settings], Settings]:
    return lambda s: {**s, **settings}


def interleaved(s: Settings) -> Settings:
    """Pads taken for (begin, end) of one axis after the other."""
    rank = len(s["taps"])
    pads = [*s["begins"], *s.get("ends", [0] * rank)]
    return {**s, "begins": [pads[min(2 * axis, len(pads) - 1)] for axis in range(rank)]}


def misread_pads(view: Any, node: Any, found: Lowered) -> Lowered:
    """Pads taken for (begin, end) of one axis after the other."""
    pads = node.attr("pads")
    if not pads:
        return found
    return Lowered(found.operands, {**found.settings, "begins": list(pads[::2])})


def filled_with_zero(patch: Patch) -> None:
    right = windows.windows
    patch.setattr(windows, "windows", lambda x, fill, grid: right(x, 0, grid))


def one_dilation(s: Settings) -> Settings:
    return {**s, "dilations": [1] * len(s["dilations"])}


def indices_of_planes(found: Any, x: Array, **s: Any) -> Any:
    return found[0], found[1] % math.prod(x.shape[2:])


def naive_softmax(x: Array, *, axis: int, flattens: bool) -> Array:
    with np.errstate(all="ignore"):
        powers = np.exp(x.reshape(math.prod(x.shape[:axis]), -1) if flattens else x)
        return (powers / powers.sum(axis=1 if flattens else axis, keepdims=True)).reshape(x.shape)


def default_axis(view: Any, node: Any, found: Lowered) -> Lowered:
    if node.attr("axis") is not None:
        return found
    return Lowered(found.operands, {**found.settings, "axis": max(len(view.shape(node.inputs[0])) - 1, 0)})


def shuffled_groups(found: Array, *operands: Array, group: int, **s: Any) -> Array:
    batch, channels, *rest = found.shape
    return found.reshape(batch, group, channels // group, *rest).swapaxes(1, 2).reshape(found.shape)


def left_aligned(right: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    """Broadcasting that begins at the first axis."""

    def wrong(a: Array, b: Array) -> Array:
        found = right(a, b)
        if a.ndim > b.ndim > 0 and a.shape[: b.ndim] == b.shape and len(set(a.shape)) < a.ndim:
            return right(a, b.reshape(*b.shape, *(1,) * (a.ndim - b.ndim)))
        return found

    return wrong


def first_operand_only(right: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    """The second operand is broadcast to the first, never the other way round."""

    def wrong(a: Array, b: Array) -> Array:
        found = right(a, b)
        return found if found.shape == a.shape else np.broadcast_to(a, found.shape).astype(found.dtype)

    return wrong


def away_from_zero(x: Array, *, scale: Any, zero: Any, axis: int, dtype: str) -> Array:
    from acme_npu.units.quantization import RANGES, _along

    from mace_core.tensor import DType

    steps = x / _along(scale, x.ndim, axis).astype(np.float32)
    steps = np.sign(steps) * np.floor(np.abs(steps) + 0.5)
    low, high = RANGES[DType.from_numpy(np.dtype(dtype))]
    return np.clip(steps + _along(zero, x.ndim, axis), low, high).astype(dtype)


def wrapping(x: Array, *, scale: Any, zero: Any, axis: int, dtype: str) -> Array:
    from acme_npu.units.quantization import _along

    steps = np.rint(x / _along(scale, x.ndim, axis).astype(np.float32)) + _along(zero, x.ndim, axis)
    return steps.astype(np.int64).astype(dtype)


def without_zero(s: Settings) -> Settings:
    return {**s, "zero": np.zeros_like(s["zero"]).tolist()}


def of_the_first_channel(s: Settings) -> Settings:
    if not isinstance(s["scale"], list):
        return s
    return {**s, "scale": s["scale"][0], "zero": s["zero"][0]}


def fuses_whoever_reads(patch: Patch) -> None:
    """The convolution's own result is forgotten where somebody else reads it too."""

    def may_fuse(before: Command, command: Command, commands: Sequence[Command], results: Sequence[int]) -> bool:
        return before.operator == "Conv" and before.then is None and command.operator in program.FUSED

    def fused(commands: Sequence[Command], results: Sequence[int]) -> list[Command]:
        made = right(commands, results)
        stands_for = {c.outputs[0]: f.outputs[0] for c in commands for f in made if c.name in f.source}
        return [
            Command(
                c.name, c.operator, tuple(stands_for.get(i, i) if i not in live(made) else i for i in c.inputs),
                c.outputs, c.settings, c.then, c.source,
            )
            for c in made
        ]  # fmt: skip

    right = program.fused
    patch.setattr(program, "may_fuse", may_fuse)
    patch.setattr(program, "fused", fused)
    remember_outputs(patch)


def live(commands: Sequence[Command]) -> set[int]:
    return {register for command in commands for register in command.outputs}


def remember_outputs(patch: Patch) -> None:
    """Registers that no command writes any more are read as what their reader became."""
    from acme_npu import backend

    right = backend.computed

    def computed(command: Command, registers: Any) -> Any:
        found = right(command, registers)
        if command.then is not None:
            for register in range(max([*registers, *command.outputs]) + 2):
                registers.setdefault(register, found[0])
        return found

    patch.setattr(backend, "computed", computed)


def fuses_outputs(patch: Patch) -> None:
    """A convolution whose result is also an output of the subgraph is fused all the same."""
    right = program.may_fuse
    patch.setattr(program, "may_fuse", lambda before, command, commands, results: right(before, command, commands, ()))
    remember_outputs(patch)


def fuses_read_twice(patch: Patch) -> None:
    def may_fuse(before: Command, command: Command, commands: Sequence[Command], results: Sequence[int]) -> bool:
        is_conv = before.operator == "Conv" and before.then is None and command.operator in program.FUSED
        return is_conv and before.outputs[0] not in results

    patch.setattr(program, "may_fuse", may_fuse)
    remember_outputs(patch)


def pool(name: str, operator: str, apply: Callable[[Patch], None]) -> Mutation:
    return Mutation(f"{operator}: {name}", operator, apply)


KERNELS: list[Mutation] = [
    Mutation("MaxPool pads in the wrong order", "MaxPool", read_as("MaxPool", misread_pads), words="pads="),
    Mutation("MaxPool padded with 0", "MaxPool", filled_with_zero, words="sign=negative|pads"),
    Mutation("MaxPool stride of the other axis", "MaxPool", told("MaxPool", reversed_of("strides")), words="strides="),
    Mutation("MaxPool dilations ignored", "MaxPool", told("MaxPool", one_dilation), words="dilations="),
    Mutation(
        "MaxPool dilation of the other axis", "MaxPool", told("MaxPool", reversed_of("dilations")), words="dilations="
    ),
    Mutation(
        "MaxPool Indices within a plane",
        "MaxPool",
        gives("MaxPool", indices_of_planes),
        words="indices=True.*output y1",
    ),
    Mutation(
        "MaxPool Indices without regard to the order of storage",
        "MaxPool",
        told("MaxPool", constant(storage_order=0)),
        words="storage_order=1",
    ),
    Mutation(
        "MaxPool Indices as if nothing were padded",
        "MaxPool",
        gives("MaxPool", lambda f, x, **s: (f[0], f[1] + s["begins"][-1])),
        words="output y1",
    ),
    Mutation(
        "AveragePool always counts pads", "AveragePool", told("AveragePool", constant(count_pads=True)), words="pads="
    ),
    Mutation(
        "AveragePool never counts pads",
        "AveragePool",
        told("AveragePool", constant(count_pads=False)),
        words="count_include_pad=1",
    ),
    Mutation(
        "AveragePool stride of the other axis",
        "AveragePool",
        told("AveragePool", reversed_of("strides")),
        words="strides=",
    ),
    Mutation("AveragePool pads in the wrong order", "AveragePool", read_as("AveragePool", misread_pads), words="pads="),
    Mutation(
        "AveragePool counts what ceil_mode adds",
        "AveragePool",
        told("AveragePool", lambda s: {**s, "ends": [e + 3 for e in s["ends"]]}),
        words="ceil_mode=1|count_include_pad=1",
    ),
    Mutation("Conv stride of the other axis", "Conv", told("Conv", reversed_of("strides")), words="strides="),
    Mutation("Conv dilation of the other axis", "Conv", told("Conv", reversed_of("dilations")), words="dilations="),
    Mutation("Conv dilations ignored", "Conv", told("Conv", one_dilation), words="dilations="),
    Mutation("Conv pads in the wrong order", "Conv", read_as("Conv", misread_pads), words="pads="),
    Mutation("Conv pads of the other axis", "Conv", told("Conv", reversed_of("begins")), words="pads="),
    Mutation("Conv groups interleaved", "Conv", gives("Conv", shuffled_groups), words="groups="),
    Mutation("Conv bias ignored", "Conv", given("Conv", lambda o: o[:2]), words="bias="),
    Mutation(
        "Conv bias of the first filter",
        "Conv",
        given("Conv", lambda o: [*o[:2], *(np.full_like(b, b[0]) for b in o[2:])]),
        words="bias=",
    ),
    Mutation(
        "Conv SAME_LOWER as SAME_UPPER",
        "Conv",
        read_as(
            "Conv",
            lambda v, n, f: Lowered(
                f.operands,
                {
                    **f.settings,
                    "begins": [
                        b if n.attr("auto_pad") != "SAME_LOWER" else max(b - 1, 0) for b in f.settings["begins"]
                    ],
                },
            ),
        ),
        words="SAME_LOWER",
    ),
    Mutation(
        "Conv of the first picture of a batch",
        "Conv",
        gives("Conv", lambda f, *o, **s: np.broadcast_to(f[:1], f.shape)),
        words="batch=3",
    ),
    Mutation(
        "Softmax of opset 13 for older models",
        "Softmax",
        told("Softmax", constant(flattens=False)),
        words="opset=(9|11)",
    ),
    Mutation(
        "Softmax of opset 11 for newer models", "Softmax", told("Softmax", constant(flattens=True)), words="axis="
    ),
    Mutation(
        "Softmax along the last axis by default at every opset",
        "Softmax",
        read_as("Softmax", default_axis),
        words="opset=(9|11)",
    ),
    Mutation(
        "Softmax without subtracting the maximum", "Softmax", computes("Softmax", naive_softmax), words="magnitude="
    ),
    Mutation("Clip ignores max", "Clip", told("Clip", constant(high=None)), words="Clip"),
    Mutation("Clip ignores min", "Clip", told("Clip", constant(low=None)), words="Clip"),
    Mutation(
        "Clip takes a max left out for 0",
        "Clip",
        told("Clip", lambda s: {**s, "high": s["high"] or 0.0}),
        words="bounds=(min|neither)",
    ),
    Mutation(
        "Clip takes a min left out for 0",
        "Clip",
        told("Clip", lambda s: {**s, "low": s["low"] or 0.0}),
        words="bounds=(max|neither)",
    ),
    Mutation(
        "Clip fails without max", "Clip", told("Clip", lambda s: {**s, "high": float(s["high"])}), words="TypeError"
    ),
    Mutation("Gemm ignores alpha", "Gemm", told("Gemm", constant(alpha=1.0)), words="alpha="),
    Mutation("Gemm ignores beta", "Gemm", told("Gemm", constant(beta=1.0)), words="beta="),
    Mutation(
        "Gemm takes a column for a row",
        "Gemm",
        given("Gemm", lambda o: [*o[:2], *(c.reshape(-1)[:1] if c.shape[-1:] == (1,) else c for c in o[2:])]),
        words="c=column",
    ),
    Mutation(
        "MatMul forgets all but the first matrix",
        "MatMul",
        gives("MatMul", lambda f, *o: np.broadcast_to(f[:1], f.shape) if f.ndim > 2 else f),
        words="shapes=",
    ),
    Mutation(
        "Add aligns its operands at the first axis", "Add", computes("Add", first_operand_only(np.add)), words="shapes="
    ),
    Mutation(
        "Sub swaps its operands where the second is larger",
        "Sub",
        computes("Sub", lambda a, b: np.subtract(b, a) if b.ndim > a.ndim else np.subtract(a, b)),
        words="shapes=",
    ),
    Mutation(
        "Mul broadcasts the second operand alone",
        "Mul",
        computes("Mul", first_operand_only(np.multiply)),
        words="shapes=",
    ),
    Mutation(
        "Concat takes a negative axis for the last",
        "Concat",
        told("Concat", lambda s: {**s, "axis": 2 if s["axis"] < 0 else s["axis"]}),
        words="axis=-2",
    ),
    Mutation("Concat swaps its operands", "Concat", given("Concat", lambda o: o[::-1]), words="Concat"),
    Mutation(
        "Reshape loses the order of elements",
        "Reshape",
        given("Reshape", lambda o: [np.asfortranarray(o[0]).T.reshape(o[0].shape)]),
        words="Reshape",
    ),
    Mutation(
        "Reshape keeps no dimension",
        "Reshape",
        read_as(
            "Reshape",
            lambda v, n, f: Lowered(f.operands, {"shape": [d or 1 for d in v.constant(n.inputs[1]).numpy().tolist()]}),
        ),
        words="target=",
    ),
    Mutation(
        "Transpose does nothing by default",
        "Transpose",
        read_as(
            "Transpose",
            lambda v, n, f: (
                f if n.attr("perm") else Lowered(f.operands, {"perm": list(range(len(f.settings["perm"])))})
            ),
        ),
        words="plain",
    ),
    Mutation(
        "Transpose by the inverse permutation",
        "Transpose",
        told("Transpose", lambda s: {"perm": np.argsort(s["perm"]).tolist()}),
        words="perm=",
    ),
    Mutation(
        "Resize swaps the factors",
        "Resize",
        told("Resize", lambda s: {"factors": [*s["factors"][:2], *s["factors"][:1:-1]]}),
        words="Resize",
    ),
    Mutation(
        "BatchNormalization ignores epsilon",
        "BatchNormalization",
        read_as("BatchNormalization", lambda v, n, f: without_epsilon(v, n, f)),
        words="epsilon=",
    ),
    Mutation("LeakyRelu ignores alpha", "LeakyRelu", told("LeakyRelu", constant(alpha=0.01)), words="alpha="),
    Mutation(
        "LeakyRelu takes the larger of both sides",
        "LeakyRelu",
        computes("LeakyRelu", lambda x, *, alpha: np.maximum(x, x * np.float32(alpha))),
        words="alpha=",
    ),
    Mutation(
        "Pad reflects the edge too",
        "Pad",
        computes(
            "Pad",
            lambda x, *, sides, mode, value: (
                np.pad(x, sides, constant_values=value)
                if mode == "constant"
                else np.pad(x, sides, mode="symmetric" if mode == "reflect" else "edge")
            ),
        ),
        words="mode=reflect",
    ),
    Mutation(
        "Pad takes edge for reflect",
        "Pad",
        told("Pad", lambda s: {**s, "mode": "edge" if s["mode"] == "reflect" else s["mode"]}),
        words="mode=reflect",
    ),
    Mutation("Pad ignores its value", "Pad", told("Pad", constant(value=0.0)), words="value="),
    Mutation(
        "Pad swaps before and after",
        "Pad",
        told("Pad", lambda s: {**s, "sides": [side[::-1] for side in s["sides"]]}),
        words="Pad",
    ),
    Mutation(
        "Pad ignores its axes",
        "Pad",
        read_as(
            "Pad",
            lambda v, n, f: (
                f if n.input(3) is None else Lowered(f.operands, {**f.settings, "sides": f.settings["sides"][::-1]})
            ),
        ),
        words="axes=",
    ),
    Mutation(
        "ReduceMean always keeps dimensions", "ReduceMean", told("ReduceMean", constant(keeps=True)), words="keepdims=0"
    ),
    Mutation(
        "ReduceSum takes -1 for the first axis",
        "ReduceSum",
        told("ReduceSum", lambda s: {**s, "axes": [max(a, 0) for a in s["axes"]]}),
        words="axes=",
    ),
    Mutation(
        "ReduceMax begins at 0", "ReduceMax", gives("ReduceMax", lambda f, x, **s: np.maximum(f, 0)), words="got 0.0"
    ),
    Mutation(
        "ReduceSum reads attributes at every opset",
        "ReduceSum",
        read_as(
            "ReduceSum",
            lambda v, n, f: Lowered(
                f.operands, {**f.settings, "axes": list(n.attr("axes") or range(len(v.shape(n.inputs[0]))))}
            ),
        ),
        words="axes=",
    ),
    Mutation(
        "Sigmoid overflows",
        "Sigmoid",
        computes(
            "Sigmoid",
            naive_sigmoid := lambda x: np.where(
                x > 80, np.float32(np.nan), 1 / (1 + np.exp(-np.clip(x, -80, 80)))
            ).astype(np.float32),
        ),
        words="magnitude=",
    ),
    Mutation(
        "QuantizeLinear rounds halves away from 0",
        "QuantizeLinear",
        computes("QuantizeLinear", away_from_zero),
        words="values=halves",
    ),
    Mutation(
        "QuantizeLinear wraps around", "QuantizeLinear", computes("QuantizeLinear", wrapping), words="values=beyond"
    ),
    Mutation(
        "QuantizeLinear ignores the zero point",
        "QuantizeLinear",
        told("QuantizeLinear", without_zero),
        words="QuantizeLinear",
    ),
    Mutation(
        "QuantizeLinear takes the first channel's scale",
        "QuantizeLinear",
        told("QuantizeLinear", of_the_first_channel),
        words="scales=channel",
    ),
    Mutation(
        "QuantizeLinear takes axis 1 always",
        "QuantizeLinear",
        told(
            "QuantizeLinear", lambda s: {**s, "axis": 1} if isinstance(s["scale"], list) and len(s["scale"]) > 1 else s
        ),
        words="axis=",
    ),
    Mutation(
        "DequantizeLinear ignores the zero point",
        "DequantizeLinear",
        told("DequantizeLinear", without_zero),
        words="DequantizeLinear",
    ),
    Mutation(
        "DequantizeLinear takes int8 for uint8",
        "DequantizeLinear",
        given("DequantizeLinear", lambda o: [o[0].view(np.uint8)]),
        words="DequantizeLinear with plain",
    ),
    Mutation(
        "DequantizeLinear takes the first channel's scale",
        "DequantizeLinear",
        told("DequantizeLinear", of_the_first_channel),
        words="scales=channel",
    ),
    Mutation(
        "quantized Conv takes the first filter's scale",
        "Conv",
        told("DequantizeLinear", of_the_first_channel),
        "clusters",
        "per channel=True",
    ),
    Mutation("quantized Add ignores the zero points", "Add", told("DequantizeLinear", without_zero), "clusters"),
    Mutation(
        "a fused Conv is forgotten where its result is read outside", "Conv", fuses_outputs, "neighbors", "outside"
    ),
    Mutation(
        "a fused Conv is forgotten where its result is read twice",
        "Conv",
        fuses_read_twice,
        "neighbors",
        "twice|and by|then",
    ),
    Mutation(
        "Add of a value and itself reads one operand",
        "Add",
        computes("Add", lambda a, b: a if a is b or np.shares_memory(a, b) else np.add(a, b)),
        "neighbors",
        "itself|twice",
    ),
]


def without_epsilon(view: Any, node: Any, found: Lowered) -> Lowered:
    """As if epsilon were what it is where it is left out."""
    scale, bias, mean, variance = (view.constant(node.inputs[index]).numpy() for index in range(1, 5))
    factor = scale / np.sqrt(variance + np.float32(1e-5))
    return Lowered(found.operands, {"factor": factor.tolist(), "summand": (bias - mean * factor).tolist()})


__all__ = ["KERNELS", "Mutation", "matrix"]
