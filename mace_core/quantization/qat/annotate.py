"""Where fake quantization goes in a graph of torch.export: what the integer kernels of the providers read and write."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch.fx import Graph, Node
from torchao.quantization.pt2e.quantizer import (
    QuantizationAnnotation,
    QuantizationSpecBase,
    SharedQuantizationSpec,
)
from torchao.quantization.pt2e.quantizer.quantizer import Q_ANNOTATION_KEY

from mace_core.quantization.qat.specs import Specs

aten = torch.ops.aten

WEIGHTED = frozenset(
    {
        aten.conv1d.default,
        aten.conv1d.padding,
        aten.conv2d.default,
        aten.conv2d.padding,
        aten.conv3d.default,
        aten.conv3d.padding,
        aten.conv_transpose1d.default,
        aten.conv_transpose2d.input,
        aten.linear.default,
    }
)
TRANSPOSED = frozenset({aten.conv_transpose1d.default, aten.conv_transpose2d.input})
NORMALIZED = frozenset(
    {
        aten.batch_norm.default,
        aten._native_batch_norm_legit.default,
        aten.cudnn_batch_norm.default,
        aten._native_batch_norm_legit_functional.default,
    }
)
BOUNDED = frozenset(
    {
        aten.relu.default,
        aten.relu_.default,
        aten.relu6.default,
        aten.hardtanh.default,
        aten.hardtanh_.default,
        aten.clamp.default,
        aten.clamp_.default,
    }
)
"""Become the bounds of the operator in front of them: nothing is rounded between the two."""

BINARY = frozenset(
    {
        aten.add.Tensor,
        aten.add_.Tensor,
        aten.sub.Tensor,
        aten.sub_.Tensor,
        aten.mul.Tensor,
        aten.mul_.Tensor,
        aten.matmul.default,
        aten.bmm.default,
    }
)
UNARY = frozenset(
    {
        aten.avg_pool1d.default,
        aten.avg_pool2d.default,
        aten.adaptive_avg_pool1d.default,
        aten.adaptive_avg_pool2d.default,
        aten.mean.dim,
        aten.elu.default,
        aten.gelu.default,
        aten.hardswish.default,
        aten.hardswish_.default,
        aten.leaky_relu.default,
        aten.leaky_relu_.default,
        aten.silu.default,
        aten.silu_.default,
        aten.upsample_bilinear2d.vec,
    }
)
BELOW_ONE = frozenset(
    {
        aten.sigmoid.default,
        aten.sigmoid_.default,
        aten.hardsigmoid.default,
        aten.hardsigmoid_.default,
        aten.softmax.int,
        aten._softmax.default,
    }
)
"""Their results lie in [0, 1], whatever comes in."""

MOVING = frozenset(
    {
        aten.contiguous.default,
        aten.dropout.default,
        aten.dropout_.default,
        aten.expand.default,
        aten.flatten.using_ints,
        aten.max_pool1d.default,
        aten.max_pool2d.default,
        aten.permute.default,
        aten.pixel_shuffle.default,
        aten.reshape.default,
        aten.select.int,
        aten.slice.Tensor,
        aten.squeeze.dim,
        aten.squeeze.dims,
        aten.transpose.int,
        aten.unsqueeze.default,
        aten.upsample_nearest2d.vec,
        aten.view.default,
    }
)
"""Hand on the numbers they are given, so that what they write has the encoding of what they read."""

JOINING = frozenset({aten.cat.default})


@dataclass(slots=True)
class Annotator:
    """Writes the annotations of one graph.

    Attributes:
        specs: how activations and weights are rounded.
        excluded: says of a node that it stays in float.
    """

    specs: Specs
    excluded: Callable[[Node], bool]

    def annotate(self, graph: Graph) -> None:
        """Annotate every node that has an integer form; each once, with what it is fused with."""
        for node in graph.nodes:
            if node.op != "call_function" or is_annotated(node) or self.excluded(node):
                continue
            if node.target in WEIGHTED:
                self._weighted(node)
            elif node.target in BINARY:
                self._computing(node, _tensors(node))
            elif node.target in UNARY | BOUNDED:
                self._computing(node, _tensors(node)[:1])
            elif node.target in BELOW_ONE:
                _annotate(node, {_tensors(node)[0]: self.specs.activation}, self.specs.below_one)
        # what moves numbers is looked at last: by then it is known who has an encoding
        for node in graph.nodes:
            if node.op != "call_function" or is_annotated(node) or self.excluded(node):
                continue
            if node.target in MOVING | JOINING:
                self._moving(node)

    def _weighted(self, node: Node) -> None:
        data, weight = node.args[0], node.args[1]
        assert isinstance(data, Node) and isinstance(weight, Node)
        kernel = self.specs.transposed_weight if node.target in TRANSPOSED else self.specs.weight
        self._fused(node, {data: self.specs.activation, weight: kernel})

    def _computing(self, node: Node, tensors: list[Node]) -> None:
        if all(_is_real(tensor) for tensor in [*tensors, node]):
            self._fused(node, dict.fromkeys(tensors, self.specs.activation))

    def _fused(self, node: Node, inputs: dict[Node, QuantizationSpecBase | None]) -> None:
        """Inputs are rounded in front of ``node``, the result behind what is fused with it."""
        last = node
        for kinds in (NORMALIZED, BOUNDED) if node.target in WEIGHTED else (BOUNDED,):
            user = _sole_user(last)
            if user is not None and user.target in kinds and not is_annotated(user) and not self.excluded(user):
                _annotate(last, {}, None)
                last = user
        if last is node:
            _annotate(node, inputs, self.specs.activation)
            return
        _annotate(node, inputs, None)
        _annotate(last, {}, self.specs.activation)

    def _moving(self, node: Node) -> None:
        """Only behind something that has an encoding: what nobody computes in integers stays in float."""
        tensors = _tensors(node) if node.target in MOVING else list(_listed(node.args[0]))
        if not tensors or not all(_is_real(tensor) for tensor in [*tensors, node]):
            return
        if not all(_has_encoding(tensor) for tensor in tensors):
            return
        first = tensors[0]
        shared = SharedQuantizationSpec((first, node))
        inputs: dict[Node, QuantizationSpecBase | None] = dict.fromkeys(tensors, shared)
        inputs[first] = self.specs.activation
        _annotate(node, inputs, shared)


def is_annotated(node: Node) -> bool:
    """Whether somebody has decided already how ``node`` is computed."""
    found = node.meta.get(Q_ANNOTATION_KEY)
    return isinstance(found, QuantizationAnnotation) and found._annotated


def _annotate(node: Node, inputs: dict[Node, QuantizationSpecBase | None], result: QuantizationSpecBase | None) -> None:
    node.meta[Q_ANNOTATION_KEY] = QuantizationAnnotation(input_qspec_map=inputs, output_qspec=result, _annotated=True)


def _tensors(node: Node) -> list[Node]:
    """The nodes among its arguments, each once, in order."""
    return list(dict.fromkeys(argument for argument in node.args if isinstance(argument, Node)))


def _listed(argument: object) -> Iterable[Node]:
    if not isinstance(argument, (list, tuple)):
        return []
    return dict.fromkeys(item for item in argument if isinstance(item, Node))


def _sole_user(node: Node) -> Node | None:
    users = list(node.users)
    return users[0] if len(users) == 1 else None


def _is_real(node: Node) -> bool:
    """Whether a node gives a tensor of floats."""
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.dtype.is_floating_point


def _has_encoding(node: Node) -> bool:
    """Whether a node's result is rounded to an encoding of its own."""
    found = node.meta.get(Q_ANNOTATION_KEY)
    return isinstance(found, QuantizationAnnotation) and found.output_qspec is not None
