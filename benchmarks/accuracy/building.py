"""Writing a network node by node as ONNX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17


class Builder:
    """Nodes and constants of one graph; values are known by their names."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def constant(self, array: npt.NDArray[Any], name: str = "") -> str:
        """An initializer; returns its name."""
        name = name or f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def op(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """A node with one output; returns the output's name."""
        name = f"{op_type.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(op_type, list(inputs), [name], name=name, **attributes))
        return name

    def model(
        self,
        inputs: Mapping[str, Sequence[int | str]],
        outputs: Mapping[str, tuple[str, Sequence[int | str]]],
        *,
        integers: bool = False,
    ) -> onnx.ModelProto:
        """The checked model.

        Args:
            inputs: shapes by name.
            outputs: what each value is to be called, and its shape.
            integers: the inputs are int64, not float32.
        """
        ends = [helper.make_node("Identity", [old], [new], name=new) for old, (new, _) in outputs.items()]
        nodes = [*self._nodes, *ends]
        kind = TensorProto.INT64 if integers else TensorProto.FLOAT
        graph = helper.make_graph(
            nodes,
            "network",
            [helper.make_tensor_value_info(name, kind, list(shape)) for name, shape in inputs.items()],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)) for name, shape in outputs.values()],
            self._constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
        onnx.checker.check_model(model)
        return model
