"""Which function says what an operator of ai.onnx.ml is made of."""

from __future__ import annotations

from collections.abc import Callable

from mace_core.graph import Node
from mace_core.scheduler.rewriting import BodyBuilder

DOMAIN = "ai.onnx.ml"

Body = Callable[[BodyBuilder, Node], bool]
"""Appends what stands for the node; False where this form of it is not known."""

BODIES: dict[str, Body] = {}


def body(*op_types: str) -> Callable[[Body], Body]:
    """Decorator: the function builds these operators."""

    def register(function: Body) -> Body:
        for op_type in op_types:
            BODIES[op_type] = function
        return function

    return register
