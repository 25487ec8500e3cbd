"""Epilogues: which followers of a value are taken, what they compute, what can be folded into weights."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from harness import ask_reference, make_model, make_view
from llvmlite import ir
from mace_cpu.shared.codegen.body import Body
from mace_cpu.shared.codegen.version import generator_version
from mace_cpu.shared.epilogue.epilogue import Epilogue
from mace_cpu.shared.epilogue.generate import EpilogueCode
from mace_cpu.shared.parts.facts import Settings
from mace_cpu.shared.program.match_epilogue import match_epilogue
from mace_cpu.shared.program.program import Program
from onnx import helper

from mace_core.native.kernel import load_kernels
from mace_core.native.source import KernelSource
from mace_core.native.target import Target, host_target

Array = npt.NDArray[Any]
SHAPE = (2, 16, 3, 5)


def node(op: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), [output], name=output, **attributes)


def numbers(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


INPUTS: dict[str, Array] = {
    "x": numbers(*SHAPE),
    "ready": numbers(*SHAPE, seed=1),
    "channel": numbers(16, 1, 1, seed=2),
    "channel4": numbers(1, 16, 1, 1, seed=3),
    "scalar": np.array(1.75, np.float32),
    "row": numbers(5, seed=4),
    "zero": np.array(0, np.float32),
    "three": np.array(3, np.float32),
    "six": np.array([6], np.float32),
    "sixth": np.array(1 / 6, np.float32),
    "low": np.array(-0.5, np.float32),
    "high": np.array(0.75, np.float32),
    "scale": numbers(16, seed=5),
    "bias": numbers(16, seed=6),
    "mean": numbers(16, seed=7),
    "variance": np.abs(numbers(16, seed=8)) + 0.1,
}
CONSTANTS = [name for name in INPUTS if name not in ("x", "ready")]


def match(nodes: Sequence[onnx.NodeProto], outputs: Sequence[str]) -> tuple[Epilogue, str, Array, Array]:
    """The epilogue of ``v`` (an Abs of x), the name of the value it ends at, and what v and that value really are."""
    every = [node("Abs", "x", "v"), *nodes]
    names = [n for e in every for n in e.output]
    model = make_model(every, INPUTS, names, 21, CONSTANTS)
    found = dict(zip(names, ask_reference(model, {k: v for k, v in INPUTS.items() if k not in CONSTANTS}), strict=True))
    view = make_view(model, INPUTS, found, outputs)
    program = Program(view, Settings(host_target()))
    first = view.nodes[0]
    program.fusion.begin(first)
    value = first.outputs[0]
    assert value is not None
    epilogue, last = match_epilogue(program, value)
    assert all(n.outputs[0] is not None for n in view.nodes[1:] if program.fusion.is_done(n))
    return epilogue, last.name, found["v"], found[last.name]


def apply(epilogue: Epilogue, x: Array) -> Array:
    """The generated code of an epilogue, on an (N, C, ...) array with all lanes of a vector in one channel."""
    _, c, *spatial = x.shape
    inner = int(np.prod(spatial))
    lanes = 5  # divides 15: no vector crosses a channel

    def build(target: Target) -> str:
        body = Body("epilogue_" + epilogue.tag, lanes)
        source, result, channels = body.pointer(0), body.pointer(1), body.word(2)
        code = EpilogueCode(body, 3, epilogue.ops)
        with body.loop(body.begin, body.end, lanes) as i:
            channel_index = body.divide(body.divide(i, ir.Constant(ir.IntType(64), inner))[0], channels)[1]
            value = code.emit(
                body.b,
                body.load(body.floats(source, i)),
                channel=lambda k: body.load_scalar(body.floats(code.channels[k], channel_index)),
                tensor=lambda k: body.load(body.floats(code.tensors[k], i)),
            )
            body.store(value, body.floats(result, i))
        return body.text()

    source = KernelSource("epilogue_" + epilogue.tag, generator_version("mace_cpu.shared.codegen.body"), build)
    kernel = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)(
        load_kernels([source])[source.symbol]
    )
    arrays = [*epilogue.channels, *(INPUTS[value.name] for value in epilogue.tensors)]
    y = np.empty_like(x)
    words = np.array([x.ctypes.data, y.ctypes.data, c, *(a.ctypes.data for a in arrays)], np.int64)
    kernel(words.ctypes.data, 0, x.size, 0)
    return y


TAKEN: dict[str, list[onnx.NodeProto]] = {
    "relu": [node("Relu", "v", "y")],
    "sigmoid": [node("Sigmoid", "v", "y")],
    "leaky_reluh3e4ccccd": [node("LeakyRelu", "v", "y", alpha=0.2)],
    "cliphbf000000_h3f400000": [node("Clip", "v low high", "y")],
    "cliphbf000000_x": [node("Max", "v low", "y")],
    "clipx_h3f400000": [node("Min", "v high", "y")],
    "hard_swish_relu": [node("HardSwish", "v", "a"), node("Relu", "a", "y")],
    "add_c": [node("Add", "v channel", "y")],
    "mul_c": [node("Mul", "scalar v", "y")],
    "sub_c": [node("Sub", "v channel4", "y")],
    "rsub_c": [node("Sub", "channel v", "y")],
    "div_c_tanh": [node("Div", "v channel", "a"), node("Tanh", "a", "y")],
    "prelu_c": [node("PRelu", "v channel", "y")],
    "add_t_relu": [node("Add", "ready v", "a"), node("Relu", "a", "y")],
    "mul_t_sub_t": [node("Mul", "v ready", "a"), node("Sub", "a ready", "y")],
    "rsub_t": [node("Sub", "ready v", "y")],
    "silu": [node("Sigmoid", "v", "a"), node("Mul", "v a", "y")],
    "add_c_silu_add_t": [
        node("Add", "v channel", "a"),
        node("Sigmoid", "a", "b"),
        node("Mul", "b a", "c"),
        node("Add", "c ready", "y"),
    ],
    "gated_hard_sigmoidh3e2aaaab_h3f000000": [
        node("HardSigmoid", "v", "a", alpha=1 / 6, beta=0.5),
        node("Mul", "a v", "y"),
    ],
    "save_add_number3_clip0_6_mul_s_mul_numberh3e2aaaab": [
        node("Add", "v three", "a"),
        node("Clip", "a zero six", "b"),
        node("Mul", "v b", "c"),
        node("Div", "c six", "y"),
    ],
    "save_relu_mul_numberh3e2aaaab_add_s": [
        node("Relu", "v", "a"),
        node("Mul", "a sixth", "b"),
        node("Add", "b v", "y"),
    ],
    "mul_c_add_c_relu": [
        node("BatchNormalization", "v scale bias mean variance", "a"),
        node("Identity", "a", "b"),
        node("Relu", "b", "y"),
    ],
}


@pytest.mark.parametrize("tag", TAKEN)
def test_followers_are_taken_and_computed(tag: str) -> None:
    epilogue, last, before, after = match(TAKEN[tag], ["y"])
    assert (epilogue.tag, last) == (tag, "y")
    np.testing.assert_allclose(apply(epilogue, before), after, rtol=2e-6, atol=2e-6)


LEFT: dict[str, list[onnx.NodeProto]] = {
    "another user": [node("Relu", "v", "a"), node("Exp", "v", "b"), node("Add", "a b", "y")],
    "larger than it": [node("Max", "v row", "y")],
    "not per channel": [node("Add", "v row", "y")],
    "both sides the same value": [node("Mul", "v v", "y")],
    "operand not computed yet": [node("Exp", "ready", "a"), node("Add", "v a", "y")],
    "gate read elsewhere": [node("Sigmoid", "v", "a"), node("Mul", "v a", "b"), node("Add", "a b", "y")],
    "constant divided by it": [node("Div", "channel v", "y")],
}


@pytest.mark.parametrize("why", LEFT)
def test_followers_that_must_be_left(why: str) -> None:
    epilogue, last, _, _ = match(LEFT[why], ["y"])
    assert not epilogue
    assert last == "v"


def test_a_value_needed_outside_ends_the_epilogue() -> None:
    epilogue, last, _, _ = match([node("Relu", "v", "a"), node("Sigmoid", "a", "y")], ["a", "y"])
    assert (epilogue.tag, last) == ("relu", "a")


def test_at_most_two_residuals() -> None:
    chain = [node("Add", "v ready", "a"), node("Add", "a ready", "b"), node("Add", "b ready", "y")]
    epilogue, last, _, _ = match(chain, ["y"])
    assert (epilogue.tag, last) == ("add_t_add_t", "b")


def test_leading_affine_part_can_be_folded() -> None:
    nodes = [
        node("Mul", "v channel", "a"),
        node("Add", "a scalar", "b"),
        node("Sub", "channel4 b", "c0"),
        node("Mul", "c0 sixth", "c1"),
        node("Sub", "c1 three", "c"),
        node("Relu", "c", "d"),
        node("Add", "d channel", "y"),
    ]
    epilogue, _, before, after = match(nodes, ["y"])
    scale, shift, rest = epilogue.split_affine(16)
    assert rest.tag == "relu_add_c"
    wide = before * scale.reshape(16, 1, 1) + shift.reshape(16, 1, 1)
    np.testing.assert_allclose(apply(rest, wide), after, rtol=1e-5, atol=1e-5)


def test_long_tags_stay_short_and_distinct() -> None:
    chain = [node("Clip", "v low high", "a0")]
    chain += [node("LeakyRelu", f"a{i}", f"a{i + 1}", alpha=0.1 + i) for i in range(6)]
    first, _, _, _ = match(chain, ["a6"])
    chain[-1] = node("LeakyRelu", "a5", "a6", alpha=9.5)
    second, _, _, _ = match(chain, ["a6"])
    assert len(first.tag) <= 60
    assert first.tag != second.tag
