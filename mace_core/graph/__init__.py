"""The intermediate representation: values, nodes, graphs with ONNX semantics, and read-only views of them.

Nothing here knows file formats, hardware or scheduling.
"""

from mace_core.graph.attribute import Attribute, AttributeKind
from mace_core.graph.computed import ComputedTensor
from mace_core.graph.encodings import node_encoding
from mace_core.graph.graph import Graph, Node, Value
from mace_core.graph.origin import Origin
from mace_core.graph.view import GraphView, InPlace
from mace_core.graph.windows import Window, sliding_window, stated_pads, transposed_window

__all__ = [
    "Attribute",
    "AttributeKind",
    "ComputedTensor",
    "Graph",
    "GraphView",
    "InPlace",
    "Node",
    "Origin",
    "Value",
    "Window",
    "node_encoding",
    "sliding_window",
    "stated_pads",
    "transposed_window",
]
