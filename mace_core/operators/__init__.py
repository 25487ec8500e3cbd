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

from mace_core.operators.agreement import expect, expect_one, expect_rank, require
from mace_core.operators.attributes import attributes, declare_attributes
from mace_core.operators.bodies import BodyBuilder
from mace_core.operators.context import NodeContext, ShapeMismatchError, UnresolvedShapeError
from mace_core.operators.registry import agreement, body, evaluator, register_shape_function, shape_function
from mace_core.operators.resolver import resolve
from mace_core.operators.stored_resolution import dump_resolution, load_resolution

__all__ = [
    "BodyBuilder",
    "NodeContext",
    "ShapeMismatchError",
    "UnresolvedShapeError",
    "agreement",
    "attributes",
    "body",
    "declare_attributes",
    "dump_resolution",
    "evaluator",
    "expect",
    "expect_one",
    "expect_rank",
    "load_resolution",
    "register_shape_function",
    "require",
    "resolve",
    "shape_function",
]
