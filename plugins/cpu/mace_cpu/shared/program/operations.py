"""Which operations of an epilogue a node is."""

from __future__ import annotations

import numpy as np

from mace_core.graph import Node, Value
from mace_core.symbolic import is_symbolic
from mace_cpu.shared.epilogue.operations import EpilogueOp, FloatArray
from mace_cpu.shared.nodes import need
from mace_cpu.shared.program.program import Program

MOST_LITERAL = 16


def number_operation(program: Program, node: Node, value: Value, *, any_number: bool = False) -> EpilogueOp | None:
    """Addition or multiplication with one of the constants that activation functions are made of.

    Those are small whole numbers and their inverses.  They become part of the code; other scalars, which may be
    different in every layer, are passed as per-channel constants so that one kernel serves all layers.

    ``any_number``: others are welcome, too.
    """
    if node.op_type not in ("Add", "Sub", "Mul", "Div"):
        return None
    left, right = node.inputs
    constant = program.facts.constant_of(right if left is value else left)
    if constant is None or constant.size != 1 or constant.dtype != np.float32 or left is right:
        return None
    if right is value and node.op_type in ("Sub", "Div"):
        return None
    number = float(constant.reshape(()))
    if not np.isfinite(number):
        return None
    is_plain = any(abs(n) <= MOST_LITERAL and n == round(n) for n in (number, _inverse_in_float32(number)))
    if not is_plain and not any_number:
        return None
    if node.op_type == "Sub":
        return EpilogueOp("add_number", "", (-number,))
    if node.op_type == "Add":
        return EpilogueOp("add_number", "", (number,))
    if number == 0 or not np.isfinite(np.float32(1.0 / number)):
        return None
    # multiplying by the inverse is within 1 ulp of dividing, and many times as fast
    return EpilogueOp("mul_number", "", (number if node.op_type == "Mul" else 1.0 / number,))


def _inverse_in_float32(number: float) -> float:
    """The whole number that ``number`` is the float32 inverse of; NaN if it is not one's."""
    if number == 0 or not abs(number) <= 1:
        return float("nan")
    whole = round(1 / number)
    return float(whole) if np.float32(1 / whole) == np.float32(number) else float("nan")


def per_channel(program: Program, other: Value | None, value: Value, channel_axis: int) -> FloatArray | None:
    """A constant that broadcasts to ``value`` and varies along the channel axis at most, as C elements; else None.

    Where C is not decided, a single element stands for all.
    """
    constant = program.facts.constant_of(other)
    shape = program.facts.shape(value)
    if constant is None or constant.dtype != np.float32 or constant.ndim > len(shape):
        return None
    axis = channel_axis % len(shape) if shape else 0
    padded = (1,) * (len(shape) - constant.ndim) + constant.shape
    if any(dim != 1 for i, dim in enumerate(padded) if i != axis):
        return None
    count = shape[axis] if shape else 1
    if constant.size not in (1, count):
        return None
    if constant.size == 1 and is_symbolic(count):
        return constant.reshape(1)
    return np.ascontiguousarray(np.broadcast_to(constant.reshape(-1), (count,)), np.float32)


def activation_of(program: Program, node: Node) -> tuple[EpilogueOp, ...] | None:
    """What a node does to its first input, if that is an activation with constant parameters; () for nothing at all."""
    if node.domain:
        return None
    plain = _PLAIN_ACTIVATIONS.get(node.op_type)
    if plain is not None:
        return (EpilogueOp(plain),)
    if node.op_type == "LeakyRelu":
        return (EpilogueOp("leaky_relu", "", (node.attr("alpha", 0.01),)),)
    if node.op_type == "HardSigmoid":
        return (EpilogueOp("hard_sigmoid", "", (node.attr("alpha", 0.2), node.attr("beta", 0.5))),)
    if node.op_type == "Gelu":
        return (EpilogueOp("gelu_tanh" if node.attr("approximate", "none") == "tanh" else "gelu"),)
    if node.op_type == "Elu":
        return (EpilogueOp("elu", "", (node.attr("alpha", 1.0),)),)
    if node.op_type == "Clip":
        bounds = clip_bounds(program, node)
        return None if bounds is None else (EpilogueOp("clip", "", bounds),)
    if node.op_type in ("Max", "Min") and len(node.inputs) == 2:
        bound = clip_bound(program, node)
        if bound is not None:
            bounds = (bound, None) if node.op_type == "Max" else (None, bound)
            return (EpilogueOp("clip", "", bounds),)
    if node.op_type == "Identity" or (node.op_type == "Dropout" and is_inference_dropout(program, node)):
        return ()
    return None


_PLAIN_ACTIVATIONS = {
    "Relu": "relu",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "HardSwish": "hard_swish",
    "Mish": "mish",
    "Softplus": "softplus",
}


CLIP_BOUNDS_ARE_INPUTS_SINCE = 11
LARGEST = float(np.finfo(np.float32).max)


def attribute_bound(program: Program, node: Node, name: str) -> float | None:
    """A bound of Clip that is an attribute; in the opsets that have these they default to the ends of float32's range,
    which infinities exceed."""
    default = None
    if program.facts.view.opset() < CLIP_BOUNDS_ARE_INPUTS_SINCE:
        default = {"min": -LARGEST, "max": LARGEST}[name]
    found = node.attr(name, default)
    return None if found is None else float(found)


def clip_bounds(program: Program, node: Node) -> tuple[float | None, float | None] | None:
    """The constant bounds of a float Clip; None if a bound is only known at run time, or is NaN."""
    bounds: list[float | None] = []
    for index, name in ((1, "min"), (2, "max")):
        source = node.input(index)
        if source is None:
            found = attribute_bound(program, node, name)
        else:
            content = program.facts.constant_of(source)
            if content is None or content.size != 1:
                return None
            found = float(content.reshape(()))
        if found is not None and np.isnan(found):
            return None
        bounds.append(None if found is None else float(found))
    return bounds[0], bounds[1]


def clip_bound(program: Program, node: Node) -> float | None:
    """The constant that a Max or Min compares its first input with, the same for all elements; None if there is none,
    or it is NaN."""
    x, other = (need(value) for value in node.inputs)
    content = program.facts.constant_of(other)
    if content is None or content.size != 1 or np.isnan(content.reshape(())):
        return None
    is_as_large = program.facts.have_one_shape(need(node.output(0)), x)
    return float(content.reshape(())) if is_as_large else None


def is_inference_dropout(program: Program, node: Node) -> bool:
    """Whether a Dropout passes its input on, and nobody asks for its mask."""
    training = node.input(2)
    if training is not None:
        content = program.facts.constant_of(training)
        if content is None or bool(content.reshape(-1)[0]):
            return False
    return all(output is None for output in node.outputs[1:])
