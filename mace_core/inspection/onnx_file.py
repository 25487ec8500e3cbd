"""What an ONNX file says, read without its weights: also of models that cannot be loaded."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mace_core.errors import MaceError, ModelError
from mace_core.inspection.facts import Inspection, ParameterCount, Severity, ValueFact
from mace_core.tensor import DType

if TYPE_CHECKING:
    import onnx

_NAMES_SHOWN = 3


def read_proto(path: Path) -> onnx.ModelProto | None:
    """The model without the contents of its tensors; None if the file is of another format.

    Raises:
        ModelError: if it is an ONNX file and damaged.
    """
    from mace_core.frontend.onnx import OnnxFrontend
    from mace_core.frontend.package import PackageFrontend
    from mace_core.host.file_forms import SAVED_MODEL_GRAPH

    if PackageFrontend().can_read(path) or path.name == SAVED_MODEL_GRAPH or path.suffix.lower() == ".tflite":
        return None
    import onnx
    from google.protobuf.message import DecodeError

    from mace_core.frontend.onnx.wire import WireError, strip
    from mace_core.tensor.files import open_bytes

    if path.suffix.lower() not in OnnxFrontend.suffixes and not OnnxFrontend().can_read(path):
        return None
    try:
        return onnx.ModelProto.FromString(strip(open_bytes(path, mmap=True).data.data))
    except (WireError, DecodeError) as error:
        raise ModelError(f"'{path}' is damaged or no ONNX model: {str(error).rstrip('.')}") from error


def add_file_facts(found: Inspection, model: onnx.ModelProto) -> None:
    """Origin, opsets, inputs and outputs, metadata."""
    origin = {
        "IR version": str(model.ir_version),
        "producer": f"{_text(model.producer_name)} {_text(model.producer_version)}".strip(),
        "model version": str(model.model_version) if model.model_version else "",
        "domain": _text(model.domain),
        "graph": _text(model.graph.name),
        "description": _text(model.doc_string or model.graph.doc_string),
        "functions": str(len(model.functions)) if model.functions else "",
    }
    found.properties = {key: value for key, value in origin.items() if value}
    found.opsets = {_text(entry.domain) or "ai.onnx": entry.version for entry in model.opset_import}
    found.metadata = {_text(entry.key): _text(entry.value) for entry in model.metadata_props}
    defaults = {tensor.name for tensor in model.graph.initializer}
    # before IR version 4 every initializer had to be listed among the inputs, and none can be replaced
    listed = [info for info in model.graph.input if model.ir_version >= 4 or info.name not in defaults]
    found.inputs = [ValueFact(_text(info.name), _type_text(info.type), info.name in defaults) for info in listed]
    found.outputs = [ValueFact(_text(info.name), _type_text(info.type)) for info in model.graph.output]


def add_proto_counts(found: Inspection, model: onnx.ModelProto) -> None:
    """Operators and parameters as they stand in the file, for a model that cannot be loaded."""
    operators = Counter(
        _text(node.op_type) if node.domain in ("", "ai.onnx") else f"{_text(node.domain)}.{_text(node.op_type)}"
        for graph in _graphs(model.graph)
        for node in graph.node
    )
    found.operators = dict(operators.most_common())
    tensors = [tensor for graph in _graphs(model.graph) for tensor in graph.initializer]
    found.parameters = counted((kind, math.prod(tensor.dims)) for tensor in tensors if (kind := _dtype(tensor)))


def counted(tensors: Iterable[tuple[DType, int]]) -> list[ParameterCount]:
    """Element type and number of elements of tensors, summed by type."""
    sizes: dict[DType, list[int]] = {}
    for kind, elements in tensors:
        sizes.setdefault(kind, []).append(elements)
    counts = [
        ParameterCount(kind.label, len(found), sum(found), sum(kind.nbytes(elements) for elements in found))
        for kind, found in sizes.items()
    ]
    return sorted(counts, key=lambda count: -count.nbytes)


def add_missing_data(found: Inspection, model: onnx.ModelProto, folder: Path) -> None:
    """Files with weights that are not where the model says."""
    wanted: dict[str, list[str]] = {}
    for graph in _graphs(model.graph):
        for tensor in graph.initializer:
            if tensor.data_location == tensor.EXTERNAL:
                location = next((_text(entry.value) for entry in tensor.external_data if entry.key == "location"), "")
                wanted.setdefault(location, []).append(_text(tensor.name))
    for location, names in wanted.items():
        try:
            is_there = bool(location) and (folder / location).is_file()
        except (OSError, ValueError):
            is_there = False
        if not is_there:
            shown = ", ".join(f"'{name}'" for name in names[:_NAMES_SHOWN])
            more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
            found.add(
                Severity.ERROR,
                f"the file '{location}' with the values of {shown}{more} is not beside the model",
                "copy it into the folder of the model, under that name",
            )
    if wanted:
        found.properties["external data"] = ", ".join(sorted(wanted))


def add_deprecated(found: Inspection, model: onnx.ModelProto) -> None:
    """Operators that their opset calls deprecated."""
    import onnx.defs

    from mace_core.frontend.onnx.schemas import newest_opset, standard_domain

    versions = {standard_domain(_text(entry.domain)): entry.version for entry in model.opset_import}
    seen = Counter((standard_domain(_text(node.domain)), _text(node.op_type)) for node in model.graph.node)
    for (domain, op_type), count in seen.items():
        version, newest = versions.get(domain, 1), newest_opset(domain)
        if newest is None or not 1 <= version <= newest:
            continue  # told elsewhere
        try:
            schema = onnx.defs.get_schema(op_type, version, domain)
        except onnx.defs.SchemaError:
            continue
        if schema.deprecated:
            found.add(
                Severity.NOTE,
                f"{op_type} ({count} node{'s' * (count != 1)}) is deprecated since opset {schema.since_version}",
                "export the model again for a newer opset",
            )


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for body in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
                yield from _graphs(body)


def _text(field: str | bytes) -> str:
    """A string of the file, which need not be UTF-8."""
    return field if isinstance(field, str) else field.decode("utf-8", "backslashreplace")


def _dtype(tensor: onnx.TensorProto) -> DType | None:
    try:
        return DType(tensor.data_type)
    except ValueError:
        return None


def _type_text(proto: onnx.TypeProto) -> str:
    from mace_core.frontend.onnx.types import import_type

    try:
        return str(import_type(proto, "the model") or "unknown")
    except MaceError:
        return "unknown"
