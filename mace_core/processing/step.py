"""What a step is, and the writer of its graph."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.errors import UsageError
from mace_core.graph import Attribute, AttributeKind, Graph, Node, Value
from mace_core.tensor import DType, Tensor, TensorType

FEWEST_OPSET = 11
"""Of models that steps are built for."""

AXES_ARE_INPUTS_SINCE = 13


class Step(ABC):
    """Something done before or after a model.

    Attributes:
        port: the input of the model that it feeds, or the output that it takes; "" for the only one.
    """

    port: str = ""

    @abstractmethod
    def build(self, value: Value, metadata: Mapping[str, str], opset: int) -> Graph:
        """The graph of the step, in the default domain of version ``opset``.

        Args:
            value: the input of the model that it has to make, or the output that it is given.
            metadata: of the model.
            opset: of the model.

        Raises:
            UsageError: if the step is not for such an input or output.
        """

    def described(self) -> dict[str, Any]:
        """What it does, for `mace inspect`: plain values."""
        return {"step": type(self).__name__.lower()}


@dataclass(frozen=True)
class OnnxStep(Step):
    """A graph of ONNX: its outputs are inputs of the model, or its inputs are outputs of the model, by their names.

    Attributes:
        path: of the file.
        port: where the graph has one output (before a model) or one input (after it): the name in the model, if it is
            another one.
    """

    path: str | os.PathLike[str]
    port: str = ""

    def build(self, value: Value, metadata: Mapping[str, str], opset: int) -> Graph:
        from mace_core.frontend.load import load_model

        return load_model(self.path)

    def described(self) -> dict[str, Any]:
        return {"step": "onnx", "file": Path(self.path).name}


class Writer:
    """Appends nodes to a graph; names are its own."""

    def __init__(self, name: str, opset: int) -> None:
        self.graph = Graph(name)
        self.graph.opset_imports = {"": opset}
        self.opset = opset

    def input(self, name: str, dtype: DType, shape: Sequence[int | str | None]) -> Value:
        """A new input."""
        value = Value(name, TensorType(dtype, tuple(shape)))
        self.graph.inputs.append(value)
        return value

    def output(self, value: Value, name: str, type: TensorType | None = None) -> None:
        """Name a value, and make it an output."""
        value.name = name
        value.type = type
        self.graph.outputs.append(value)

    def op(self, op_type: str, inputs: Sequence[Value | None], domain: str = "", **attributes: Any) -> Value:
        """Append a node with one output."""
        return self.several(op_type, inputs, 1, domain, **attributes)[0]

    def several(
        self, op_type: str, inputs: Sequence[Value | None], count: int, domain: str = "", **attributes: Any
    ) -> list[Value]:
        """Append a node with ``count`` outputs."""
        name = f"{op_type}_{len(self.graph.nodes)}"
        outputs = [Value(name if count == 1 else f"{name}_{index}") for index in range(count)]
        made = {key: _attribute(value) for key, value in attributes.items()}
        self.graph.nodes.append(Node(op_type, inputs, outputs, name=name, domain=domain, attributes=made))
        return outputs

    def with_axis(self, op_type: str, value: Value, axis: int, **attributes: Any) -> Value:
        """Squeeze, Unsqueeze or ReduceSum along one axis, as the opset has it."""
        if self.opset < AXES_ARE_INPUTS_SINCE:
            return self.op(op_type, [value], axes=(axis,), **attributes)
        return self.op(op_type, [value, self.ints(axis)], **attributes)

    def constant(self, content: npt.ArrayLike, dtype: npt.DTypeLike | None = None) -> Value:
        """A constant."""
        name = f"constant_{len(self.graph.initializers)}"
        value = Value(name, constant=Tensor.from_numpy(np.asarray(content, dtype)))
        self.graph.initializers[name] = value
        return value

    def texts(self, content: Sequence[str]) -> Value:
        """A constant of texts."""
        array = np.empty(len(content), object)
        array[:] = list(content)
        return self.constant(array)

    def ints(self, *numbers: int) -> Value:
        """A constant of whole numbers."""
        return self.constant(list(numbers), np.int64)

    def scalar(self, number: float) -> Value:
        """A constant of one number, float32."""
        return self.constant(number, np.float32)

    def cast(self, value: Value, dtype: DType) -> Value:
        """Another element type."""
        return self.op("Cast", [value], to=dtype.value)


def _attribute(value: Any) -> Attribute:
    if isinstance(value, int):
        return Attribute(AttributeKind.INT, value)
    if isinstance(value, float):
        return Attribute(AttributeKind.FLOAT, value)
    if isinstance(value, str):
        return Attribute(AttributeKind.STRING, value)
    return Attribute(AttributeKind.INTS, tuple(int(number) for number in value))


def tensor_type(value: Value, what: str) -> TensorType:
    """The type of an input or output.

    Raises:
        UsageError: if it is no tensor.
    """
    if not isinstance(value.type, TensorType):
        raise UsageError(f"the {what} '{value.name}' is no tensor of a known type, and this step is for one")
    return value.type


def read_labels(labels: str | Sequence[str], metadata: Mapping[str, str]) -> list[str]:
    """The texts of classes: a list, the lines of a file, or of ``metadata:KEY`` of the model.

    Raises:
        UsageError: if there are none.
    """
    if not isinstance(labels, str):
        return list(labels)
    if labels.startswith("metadata:"):
        key = labels.removeprefix("metadata:")
        if key not in metadata:
            known = ", ".join(f"'{each}'" for each in metadata) or "none"
            raise UsageError(f"labels: the model has no metadata '{key}'; it has {known}")
        return _lines(metadata[key])
    try:
        return _lines(Path(labels).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"labels: there is no file '{labels}'") from None
    except OSError as error:
        raise UsageError(f"labels: '{labels}' cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError:
        raise UsageError(f"labels: '{labels}' is no text in UTF-8") from None


def _lines(text: str) -> list[str]:
    """What is between line feeds alone: a label may be a space that Python's own lines end at (U+2028, U+0085)."""
    found = [line.removesuffix("\r") for line in text.split("\n")]
    return found[:-1] if found[-1] == "" else found
