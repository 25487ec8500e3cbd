"""What a strategy draws: one node with its inputs, and how close the results must be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

Array = npt.NDArray[Any]

CONTRIB = "com.microsoft"
ML = "ai.onnx.ml"


@dataclass(frozen=True, eq=False)
class OpCase:
    """One node to run.

    Attributes:
        inputs: in order; None leaves an optional input out.
        outputs: which are asked for.
        domain_opset: of a domain other than the standard's.
        constants: numbers of the inputs that are initializers instead of fed.
        symbolic: the input dimensions are declared by name instead of by size.
        tolerance: largest difference of floats as a share of the largest expected element; where None, or less than
            the type's own, that of the type.
        off_by: largest difference of whole numbers (for roundings that no standard fixes).
    """

    op: str
    opset: int
    inputs: tuple[Array | None, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    outputs: tuple[bool, ...] = (True,)
    domain: str = ""
    domain_opset: int = 1
    constants: frozenset[int] = frozenset()
    symbolic: bool = False
    tolerance: float | None = None
    off_by: int = 0

    def __post_init__(self) -> None:
        # arithmetic on arrays without dimensions gives numbers
        arrays = tuple(None if array is None else np.asarray(array) for array in self.inputs)
        object.__setattr__(self, "inputs", arrays)

    @property
    def feeds(self) -> dict[str, Array]:
        """The arrays to feed, by name."""
        return {f"x{i}": a for i, a in enumerate(self.inputs) if a is not None and i not in self.constants}

    def attr(self, name: str, default: Any = None) -> Any:
        return self.attributes.get(name, default)

    def model(self) -> onnx.ModelProto:
        """The node as a model; outputs are untyped, so that everyone infers for himself."""
        present = [(i, array) for i, array in enumerate(self.inputs) if array is not None]
        names = [f"x{i}" if array is not None else "" for i, array in enumerate(self.inputs)]
        node = helper.make_node(
            self.op,
            names,
            [f"y{i}" if asked else "" for i, asked in enumerate(self.outputs)],
            domain=self.domain,
            name=self.op.lower(),
        )
        node.attribute.extend(_attribute(key, value) for key, value in self.attributes.items())
        graph = helper.make_graph(
            [node],
            "case",
            [self._info(i, array) for i, array in present if i not in self.constants],
            [onnx.ValueInfoProto(name=f"y{i}") for i, asked in enumerate(self.outputs) if asked],
            [numpy_helper.from_array(array, f"x{i}") for i, array in present if i in self.constants],
        )
        imports = [helper.make_opsetid("", self.opset)]
        if self.domain:
            imports.append(helper.make_opsetid(self.domain, self.domain_opset))
        # the oldest file format that may carry the opset, so that older readers take it
        return helper.make_model(graph, opset_imports=imports, ir_version=10 if self.opset <= 22 else 11)

    def _info(self, index: int, array: Array) -> onnx.ValueInfoProto:
        shape: Sequence[int | str] = array.shape
        if self.symbolic:
            shape = [f"x{index}_{axis}" for axis in range(array.ndim)]
        return helper.make_tensor_value_info(f"x{index}", helper.np_dtype_to_tensor_dtype(array.dtype), shape)

    def __repr__(self) -> str:
        """Short enough for a report; `keep` writes the whole case."""
        inputs = ", ".join(
            "-" if a is None else f"{a.dtype}{list(a.shape)}{'c' if i in self.constants else ''}"
            for i, a in enumerate(self.inputs)
        )
        given = "".join(f", {key}={value!r:.60}" for key, value in self.attributes.items())
        return f"{self.op}-{self.opset}({inputs}{given})"


def _attribute(name: str, value: Any) -> onnx.AttributeProto:
    if isinstance(value, np.ndarray):
        return helper.make_attribute(name, numpy_helper.from_array(value))
    if isinstance(value, (list, tuple)) and not value:
        return helper.make_attribute(name, [], attr_type=onnx.AttributeProto.INTS)
    return helper.make_attribute(name, value)
