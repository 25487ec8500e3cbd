"""What the framework knows of operators: their shapes, what their inputs must agree on, small contents, and bodies.

``standard`` holds the families of ONNX's own domain, ``microsoft``, ``ml`` and ``training`` those of other domains,
``custom`` the operators of applications.  A family is one module that registers all that is known of its operators:

    from mace_core.operators import BodyBuilder, NodeContext, body, shape_function

    @shape_function("Hypotenuse", domain="com.example")
    def hypotenuse(ctx: NodeContext): ...

    @body("Hypotenuse", domain="com.example")
    def build_hypotenuse(b: BodyBuilder, node): ...

Packages publish theirs under the entry-point group ``mace.operators`` (`mace_core.operators.packages`).  Nothing here
knows providers or runs a model.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mace_core.operators.attributes import attribute_rules, declare_attributes
    from mace_core.operators.axis_maps import AxisMap
    from mace_core.operators.bodies import BodyBuilder
    from mace_core.operators.checks import expect, expect_one, expect_rank, require
    from mace_core.operators.context import NodeContext, NodeShapes, ShapeMismatchError, UnresolvedShapeError, broadcast
    from mace_core.operators.independence import AxesContext, Lane
    from mace_core.operators.registry import (
        agreement,
        axis_map,
        body,
        declare_random,
        evaluator,
        independent_axes,
        one_type,
        rank_check,
        register_shape_function,
        shape_function,
        shapes_from_contents,
        work_estimate,
    )
    from mace_core.operators.resolver import resolve
    from mace_core.operators.stored_resolution import dump_resolution, load_resolution

# Loaded when first used: a session that is restored from the cache needs nothing of this.
_MODULES = {
    "attributes": ("attribute_rules", "declare_attributes"),
    "axis_maps": ("AxisMap",),
    "bodies": ("BodyBuilder",),
    "checks": ("expect", "expect_one", "expect_rank", "require"),
    "context": ("NodeContext", "NodeShapes", "ShapeMismatchError", "UnresolvedShapeError", "broadcast"),
    "independence": ("AxesContext", "Lane"),
    "registry": (
        "agreement",
        "axis_map",
        "body",
        "declare_random",
        "evaluator",
        "independent_axes",
        "one_type",
        "rank_check",
        "register_shape_function",
        "shape_function",
        "shapes_from_contents",
        "work_estimate",
    ),
    "resolver": ("resolve",),
    "stored_resolution": ("dump_resolution", "load_resolution"),
}
_LAZY = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "AxesContext",
    "AxisMap",
    "BodyBuilder",
    "Lane",
    "NodeContext",
    "NodeShapes",
    "ShapeMismatchError",
    "UnresolvedShapeError",
    "agreement",
    "attribute_rules",
    "axis_map",
    "body",
    "broadcast",
    "declare_attributes",
    "declare_random",
    "dump_resolution",
    "evaluator",
    "expect",
    "expect_one",
    "expect_rank",
    "independent_axes",
    "load_resolution",
    "one_type",
    "rank_check",
    "register_shape_function",
    "require",
    "resolve",
    "shape_function",
    "shapes_from_contents",
    "work_estimate",
]


def __getattr__(name: str) -> Any:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module 'mace_core.operators' has no attribute '{name}'")
    value = getattr(importlib.import_module(f"mace_core.operators.{module}"), name)
    globals()[name] = value
    return value
