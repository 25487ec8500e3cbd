"""Concrete shapes per input signature: shape functions, the evaluator of shape arithmetic, and what stays unknown.

Works without the onnx library for the operators that models commonly use; the rest asks onnx's own inference.
Nothing here knows providers or runs a model.
"""

from mace_core.graph.shapes import (
    agree_contrib,
    agree_indices,
    agree_pictures,
    agree_sequences,
    agree_training,
    agree_trees,
    attention,
    contrib,
    contrib_attention,
    control_flow,
    convolution,
    creation,
    elementwise,
    evaluate_arithmetic,
    evaluate_movement,
    linear,
    machine_learning,
    movement,
    normalisation,
    quantised,
    recurrent,
    reduction,
    resize,
    selection,
    signal,
)
from mace_core.graph.shapes.context import NodeContext, ShapeMismatchError, UnresolvedShapeError
from mace_core.graph.shapes.registry import register_shape_function
from mace_core.graph.shapes.resolver import resolve
from mace_core.graph.stored_resolution import dump_resolution, load_resolution

__all__ = [
    "NodeContext",
    "ShapeMismatchError",
    "UnresolvedShapeError",
    "dump_resolution",
    "load_resolution",
    "register_shape_function",
    "resolve",
]

# Imported for what they register.
_FAMILIES = (
    agree_contrib,
    agree_indices,
    agree_pictures,
    agree_sequences,
    agree_training,
    agree_trees,
    attention,
    contrib,
    contrib_attention,
    control_flow,
    convolution,
    creation,
    elementwise,
    evaluate_arithmetic,
    evaluate_movement,
    linear,
    machine_learning,
    movement,
    normalisation,
    quantised,
    recurrent,
    reduction,
    resize,
    selection,
    signal,
)
