"""The execution provider of custom operators: their functions, called node by node on the host."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from mace_core.errors import UnsupportedError, UsageError, shorten
from mace_core.graph import GraphView, Node
from mace_core.operators.custom.definition import CustomOp
from mace_core.operators.custom.registry import find_custom_op
from mace_core.provider import (
    ApiVersion,
    Backend,
    Capability,
    Claim,
    CompiledSubgraph,
    Device,
    DeviceKind,
    ExecutionProvider,
    ProbeResult,
    Rejection,
    ShapeSupport,
)
from mace_core.provider.registry import CUSTOM
from mace_core.scheduler.host.calls import HostSubgraph, NodeFunction
from mace_core.scheduler.values import RuntimeValue, read_only
from mace_core.tensor import DType, MemoryKind, TensorType
from mace_core.version import VERSION

CUSTOM_DEVICE = Device(
    provider=CUSTOM,
    id="0",
    kind=DeviceKind.CPU,
    name="custom operators registered in this process",
    vendor="mace",
    dtypes=frozenset(DType),
    memory_kinds=(MemoryKind.HOST,),
)


class CustomOpsProvider(ExecutionProvider):
    """Runs the registered custom operators and nothing else."""

    name: ClassVar[str] = CUSTOM
    vendor: ClassVar[str] = "mace"
    version: ClassVar[str] = VERSION
    api_version: ClassVar[ApiVersion] = ApiVersion(1, 0)

    def probe(self) -> ProbeResult:
        return ProbeResult(devices=(CUSTOM_DEVICE,))

    def open(self, device: Device, options: Mapping[str, object]) -> Backend:
        if options:
            raise UsageError(f"the provider of custom operators has no options; given: {', '.join(sorted(options))}")
        return CustomOpsBackend()


class CustomOpsBackend(Backend):
    """The open device."""

    shape_support = ShapeSupport.STATIC  # some functions are made for the shapes at hand
    compiles_per_shape = False
    device = CUSTOM_DEVICE

    def capability(self, view: GraphView) -> Capability:
        claimed: list[Node] = []
        rejections: list[Rejection] = []
        for node in view.nodes:
            reason = _why_not(node)
            if reason:
                rejections.append(Rejection(node, reason))
            else:
                claimed.append(node)
        return Capability((Claim(tuple(claimed)),) if claimed else (), rejections)

    def compile(self, subgraphs: Sequence[GraphView]) -> list[CompiledSubgraph]:
        name = self.device.qualified_name
        return [HostSubgraph(view, name, _function_of, "the custom operator") for view in subgraphs]


def _why_not(node: Node) -> str:
    op = find_custom_op(node.domain, node.op_type)
    return "no custom operator of this name is registered" if op is None else op.check(node)


def _function_of(view: GraphView, node: Node) -> NodeFunction:
    op = find_custom_op(node.domain, node.op_type)
    if op is None:
        raise UnsupportedError(f"the custom operator {node.qualified_op} is not registered any more", node=node.name)
    attributes = op.attribute_values(node)
    if op.is_compiled:
        return _compiled_call(view, node, op, list(attributes.values()))
    wanted = [value is not None for value in node.outputs]
    planned = [None if value is None else view.tensor_type(value) for value in node.outputs]

    def call(inputs: Sequence[RuntimeValue]) -> Sequence[RuntimeValue]:
        results = op.function(
            *op.padded([read_only(value) if isinstance(value, np.ndarray) else value for value in inputs]), **attributes
        )
        outputs = list(results) if isinstance(results, tuple | list) and len(op.outputs) > 1 else [results]
        if len(outputs) != len(op.outputs):
            raise ValueError(f"{op.origin} returned {len(outputs)} results for {len(op.outputs)} outputs")
        given = [
            _checked(op, name, result, type_) for name, result, type_ in zip(op.outputs, outputs, planned, strict=False)
        ]
        return [result for result, is_wanted in zip(given, wanted, strict=True) if is_wanted]

    return call


def _checked(op: CustomOp, name: str, result: RuntimeValue, planned: TensorType | None) -> RuntimeValue:
    """The result, if it is what the shape function promised; numbers as arrays."""
    if planned is None and not isinstance(result, int | float):
        return result
    array = np.asarray(result)
    if planned is None or planned.dtype is DType.STRING:
        return array
    if array.dtype != planned.dtype.numpy:
        raise TypeError(
            f"{op.origin} returned {array.dtype} as '{name}', where its shape function says {planned}; "
            "convert the result, or correct the shape function"
        )
    if planned.is_concrete and array.shape != planned.concrete_shape:
        raise ValueError(
            f"{op.origin} returned the shape {list(array.shape)} as '{name}', where its shape function says {planned}"
        )
    return array


def _compiled_call(view: GraphView, node: Node, op: CustomOp, attributes: list[Any]) -> NodeFunction:
    """A call of the function compiled by numba for the types at hand."""
    types = op.output_types(node, [None if value is None else view.type(value) for value in node.inputs])
    assert types is not None  # a compiled operator has a shape function
    outputs: list[tuple[tuple[int, ...], np.dtype[Any]]] = []
    for output in types:
        if not isinstance(output, TensorType) or output.dtype is DType.STRING or output.dtype.is_packed:
            raise UnsupportedError(f"the compiled operator {op.qualified_name} cannot give {output}", node=node.name)
        outputs.append((output.concrete_shape, output.dtype.numpy))
    kernel = _dispatcher(op.function)
    wanted = [index for index, value in enumerate(node.outputs) if value is not None]

    def call(inputs: Sequence[RuntimeValue]) -> Sequence[RuntimeValue]:
        filled = [np.empty(shape, dtype) for shape, dtype in outputs]
        kernel(*inputs, *filled, *attributes)
        return [filled[index] for index in wanted]

    try:  # now, not in the first run
        kernel.compile(_argument_types(view, node, outputs, attributes))
    except Exception as error:  # numba has many kinds; its words are what the author of the function needs
        words = " ".join(str(error).split())
        raise UnsupportedError(
            f"numba cannot compile {op.origin} for node '{node.name}' ({node.qualified_op}): "
            f"{shorten(words, 400) or type(error).__name__}",
            node=node.name,
        ) from error
    return call


@functools.cache
def _dispatcher(function: Callable[..., Any]) -> Any:
    import numba

    return numba.njit(nogil=True)(function)


def _argument_types(
    view: GraphView, node: Node, outputs: Sequence[tuple[tuple[int, ...], np.dtype[Any]]], attributes: Sequence[Any]
) -> tuple[Any, ...]:
    """The types numba shall compile for: contiguous arrays of the planned element types and ranks."""
    import numba

    found = []
    for value in node.inputs:
        constant = view.constant(value)
        if constant is not None:
            found.append(numba.typeof(constant.numpy()))
            continue
        given = None if value is None else view.tensor_type(value)
        if given is None or given.shape is None:
            raise ValueError("an input is not a tensor of known rank")
        found.append(numba.types.Array(numba.from_dtype(given.dtype.numpy), len(given.shape), "C"))
    found += [numba.types.Array(numba.from_dtype(dtype), len(shape), "C") for shape, dtype in outputs]
    found += [numba.typeof(item) for item in attributes]
    return tuple(found)
