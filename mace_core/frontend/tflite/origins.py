"""Where nodes come from: the operator of the file, under the name that the author's model has for what it computes."""

from __future__ import annotations

from mace_core.errors import printable
from mace_core.frontend.tflite.description import FileOperator, FileSubgraph
from mace_core.graph import Origin

_CALLS = ("StatefulPartitionedCall/", "StatefulPartitionedCall_1/", "PartitionedCall/")


def origin_of(file: FileSubgraph, operator: FileOperator) -> Origin:
    """``layer 'net/conv1/BiasAdd' (CONV_2D, operator 3)``.

    Converters name a tensor after the operations of TensorFlow that became one operator, paths of layers, with
    semicolons between them; the first one is what the tensor was.
    """
    names = [file.tensors[number].name for number in operator.outputs if number >= 0]
    name = next((name for name in names if name), "")
    name = next((part for part in name.split(";") if part), name)
    for call in _CALLS:
        name = name.removeprefix(call)
    part = f" of subgraph {file.index}" if file.index else ""
    return Origin(printable(" ".join(name.split())), f"{operator.label}, operator {operator.index}{part}")
