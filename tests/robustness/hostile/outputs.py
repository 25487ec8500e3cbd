"""Good nodes of which each output is asked for alone, the ones before it left out."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

from hostile.attributes import writer
from hostile.case import Case
from hostile.nodes import Base

MOST_OUTPUTS = 6


def cases(base: Base) -> Iterator[Case]:
    """One for each output that the operator can have."""
    node = base.node
    most = len(node.output)
    if onnx.defs.has(node.op_type, node.domain):
        schema = onnx.defs.get_schema(node.op_type, base.opset, node.domain)
        most = max(most, min(schema.max_output, MOST_OUTPUTS))
    for alone in range(most if most > 1 else 0):
        model = onnx.ModelProto()
        model.CopyFrom(base.model)
        names = [""] * alone + [node.output[alone] if alone < len(node.output) and node.output[alone] else "alone"]
        del model.graph.node[0].output[:]
        model.graph.node[0].output.extend(names)
        del model.graph.output[:]
        model.graph.output.append(onnx.ValueInfoProto(name=names[-1]))
        yield Case(base.name, f"output {alone} alone", writer(model, base.feeds))
