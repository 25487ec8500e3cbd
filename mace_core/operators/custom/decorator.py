"""The decorator that makes a function an operator."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from mace_core.errors import UsageError
from mace_core.operators.custom.definition import CustomOp, ShapeOf, read_signature
from mace_core.operators.custom.registry import register

Function = TypeVar("Function", bound=Callable[..., Any])


def custom_op(
    domain: str,
    op_type: str,
    *,
    outputs: Sequence[str] = ("output",),
    shape: ShapeOf | None = None,
    compiled: bool = False,
) -> Callable[[Function], Function]:
    """Decorator: the function computes the operator ``op_type`` of ``domain`` on the host.

    Its positional parameters are the operator's inputs: numpy arrays, not to be written to.  A default of None makes
    one optional, ``*more`` stands for any number.  Its keyword-only parameters are the attributes, of the kind that
    annotation or default tell.  It returns the output, or one per name in ``outputs``.

    With ``compiled`` the function is compiled by numba (``nogil``) for the element types and ranks it meets.  It
    returns nothing and takes inputs, then outputs to fill (C-contiguous arrays, not initialized), then attributes.

    A device that has a kernel of its own for the operator goes first.  Registering an operator again replaces it, for
    sessions made from then on.

    Args:
        domain: not one of the standard's own.
        op_type: the operator's name.
        outputs: names of the outputs.
        shape: the outputs' types, told from the inputs' without computing anything: called like the function, with a
            `TensorType` for each input.  Without it the model is planned up to the node, and further when it has run.
            Needed with ``compiled``.
        compiled: see above.

    Raises:
        UsageError: for a domain of the standard, or a signature that is not an operator's.
    """
    names = _checked_names(domain, op_type, outputs)
    if compiled and shape is None:
        raise UsageError(f"{domain}.{op_type} is compiled and fills its outputs, so it needs a shape function")

    def define(function: Function) -> Function:
        signature = read_signature(function, names, is_compiled=compiled)
        op = CustomOp(
            domain=domain,
            op_type=op_type,
            function=function,
            inputs=signature.inputs,
            required=signature.required,
            variadic=signature.variadic,
            outputs=names,
            attributes=signature.attributes,
            shape=shape,
            is_compiled=compiled,
            origin=_origin(function),
        )
        register(op)
        return function

    return define


def _checked_names(domain: str, op_type: str, outputs: Sequence[str]) -> tuple[str, ...]:
    """The names of the outputs; those of domain and operator are looked at too."""
    if not domain or domain == "ai.onnx" or domain.startswith("ai.onnx."):
        raise UsageError(f"the domain '{domain or 'ai.onnx'}' belongs to the ONNX standard; choose one of your own")
    if not op_type:
        raise UsageError(f"a custom operator of the domain '{domain}' needs a name")
    names = tuple(outputs)
    if not names or len(set(names)) != len(names) or isinstance(outputs, str):
        raise UsageError(f"{domain}.{op_type}: name each output once, in a tuple; given: {outputs!r}")
    return names


def _origin(function: Callable[..., Any]) -> str:
    """``name (file.py:12)``."""
    name = getattr(function, "__qualname__", repr(function))
    try:
        path, line = inspect.getsourcefile(function), inspect.getsourcelines(function)[1]
    except (OSError, TypeError):
        return name
    return f"{name} ({Path(path).name}:{line})" if path else name
