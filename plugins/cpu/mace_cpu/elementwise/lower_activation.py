"""Activation functions, Clip, and Dropout as it is at inference."""

from __future__ import annotations

import numpy as np

from mace_core.graph import GraphView, Node
from mace_cpu.elementwise.lower import ARITHMETIC, FLOATS
from mace_cpu.elementwise.lower_chain import Chain, elementwise, joins
from mace_cpu.elementwise.operands import aligned
from mace_cpu.shared.checks import NUMBERS, all_concrete, dtype_in, inputs_in, movable
from mace_cpu.shared.layouts.strided import Axis, emit_strided
from mace_cpu.shared.nodes import need
from mace_cpu.shared.parts.buffers import Layout
from mace_cpu.shared.program.operations import attribute_bound
from mace_cpu.shared.program.program import Program
from mace_cpu.shared.registry import lowers

CONTRIB = "com.microsoft"

# name of the function, and its attributes with their defaults
_FUNCTIONS: dict[str, tuple[str, tuple[tuple[str, float], ...]]] = {
    "Sigmoid": ("sigmoid", ()),
    "Tanh": ("tanh", ()),
    "LeakyRelu": ("leaky_relu", (("alpha", 0.01),)),
    "ThresholdedRelu": ("thresholded_relu", (("alpha", 1.0),)),
    "Elu": ("elu", (("alpha", 1.0),)),
    "Selu": ("selu", (("alpha", 1.67326319217681884765625), ("gamma", 1.05070102214813232421875))),
    "Celu": ("celu", (("alpha", 1.0),)),
    "HardSigmoid": ("hard_sigmoid", (("alpha", 0.2), ("beta", 0.5))),
    "HardSwish": ("hard_swish", ()),
    "Softplus": ("softplus", ()),
    "Softsign": ("softsign", ()),
    "Mish": ("mish", ()),
    "Swish": ("swish", (("alpha", 1.0),)),
    "Shrink": ("shrink", (("bias", 0.0), ("lambd", 0.5))),
}


@elementwise(*_FUNCTIONS, check=inputs_in(FLOATS))
def activation(chain: Chain, node: Node) -> int:
    name, attributes = _FUNCTIONS[node.op_type]
    parameters = tuple(float(node.attr(key, default)) for key, default in attributes)
    return chain.apply(name, chain.read(node.inputs[0]), parameters=parameters)


@elementwise("Relu", check=inputs_in(ARITHMETIC))
def relu(chain: Chain, node: Node) -> int:
    return chain.apply("relu", chain.read(node.inputs[0]))


def slope_fits(view: GraphView, node: Node) -> str | None:
    reason = inputs_in(ARITHMETIC)(view, node)
    if reason is not None:
        return reason
    x, slope = (view.shape(need(v)) for v in node.inputs)
    if view.opset() < 7 and len(slope) == 1 and slope != (1,) and len(x) > 1:
        return "a PRelu slope per channel without trailing dimensions (opset 6 and older) is not supported"
    is_smaller = len(slope) <= len(x)
    fits = is_smaller and all(a in (1, b) for a, b in zip(aligned(slope, len(x)), x, strict=True))
    return None if fits else f"the PRelu slope of shape {list(slope)} does not broadcast to {list(x)}"


@elementwise("PRelu", check=slope_fits)
def prelu(chain: Chain, node: Node) -> int:
    return chain.apply("prelu", chain.read(node.inputs[0]), chain.read(node.inputs[1]))


@elementwise("Gelu", check=inputs_in(FLOATS))
def gelu(chain: Chain, node: Node) -> int:
    name = "gelu_tanh" if node.attr("approximate", "none") == "tanh" else "gelu"
    return chain.apply(name, chain.read(node.inputs[0]))


@elementwise("Gelu", "BiasGelu", "FastGelu", domain=CONTRIB, check=inputs_in(FLOATS))
def contrib_gelu(chain: Chain, node: Node) -> int:
    x = chain.read(node.inputs[0])
    if node.input(1) is not None:
        x = chain.apply("add", x, chain.read(node.inputs[1]))
    return chain.apply("gelu_tanh" if node.op_type == "FastGelu" else "gelu", x)


@elementwise("QuickGelu", domain=CONTRIB, check=inputs_in(FLOATS))
def quick_gelu(chain: Chain, node: Node) -> int:
    return chain.apply("swish", chain.read(node.inputs[0]), parameters=(float(node.attr("alpha", 1.702)),))


def one_element_bounds(view: GraphView, node: Node) -> str | None:
    reason = inputs_in(NUMBERS | FLOATS)(view, node)
    for value in node.inputs[1:]:
        if reason is None and value is not None and np.prod(view.shape(value)) != 1:
            reason = f"the bound '{value.name}' of Clip is not a scalar"
    return reason


@elementwise("Clip", check=one_element_bounds)
def clip(chain: Chain, node: Node) -> int:
    x = chain.read(node.inputs[0])
    low, high = (attribute_bound(chain.program, node, name) for name in ("min", "max"))
    if low is not None or high is not None:
        return chain.apply("clip", x, parameters=(low, high))
    for index, name in ((1, "clip_low"), (2, "clip_high")):
        bound = node.input(index)
        if bound is not None:
            x = chain.apply(name, x, chain.read(bound))
    return x


# --- nothing at all ---------------------------------------------------------------------------------------------------


def passes_on(program: Program, node: Node) -> None:
    """The result shares the input's buffers."""
    source, result = need(node.inputs[0]), need(node.outputs[0])
    blocked = program.values.has(source, Layout.BLOCKED)
    if blocked:
        program.values.alias(result, program.values.read(source, Layout.BLOCKED), Layout.BLOCKED)
    if program.values.has(source, Layout.PLAIN) or not blocked:
        program.values.alias(result, program.values.read(source), Layout.PLAIN)


@lowers("Identity", check=movable)
def identity(program: Program, node: Node) -> None:
    passes_on(program, node)


def is_inference(view: GraphView, node: Node) -> str | None:
    """A reason if a Dropout may really drop something."""
    reason = all_concrete(view, node) or dtype_in(view, node.inputs[0], FLOATS)
    if reason is not None:
        return reason
    training = node.input(2)
    if training is not None:
        content = view.constant(training)
        if content is None:
            return f"the training_mode of Dropout ('{training.name}') is not known before the run"
        if bool(content.numpy().reshape(-1)[0]):
            return "Dropout in training mode is not supported"
    if view.opset() < 7 and not node.attr("is_test", 0):
        return "Dropout in training mode is not supported"
    return None


@lowers("Dropout", check=is_inference)
def dropout(program: Program, node: Node) -> None:
    passes_on(program, node)
    mask = node.output(1)
    if mask is not None:
        dtype = program.facts.dtype(mask)
        one = program.constants.put(np.ones(1, dtype.numpy))
        emit_strided(program.steps, dtype, one, program.values.write(mask), [Axis(program.facts.size(mask), 0, 1)])


@joins("Identity", "Dropout")
def nothing(chain: Chain, node: Node) -> int:
    return chain.read(node.inputs[0])
