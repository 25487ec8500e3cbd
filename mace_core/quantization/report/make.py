"""From a quantization that is done to its report: both graphs are run on a few samples, side by side."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.errors import CancelledError, MaceError, error_text
from mace_core.frontend.load import load_model
from mace_core.graph import Graph, Node, Value
from mace_core.graph.copying import copy_graph
from mace_core.progress import report as report_progress
from mace_core.quantization.calibrate import Runner
from mace_core.quantization.data import CalibrationData
from mace_core.quantization.encodings import dequantize
from mace_core.quantization.outcome import Outcome
from mace_core.quantization.report.findings import LayerFinding, Metric, Report, ValueFinding
from mace_core.quantization.report.measure import ErrorSums, sqnr_db, value_finding
from mace_core.scheduler.planning.stages import subset
from mace_core.session import Session
from mace_core.tensor import TensorType, ValueType

MEASURED_SAMPLES = 8
"""Over which layers are compared; their order of magnitude settles early."""

_UNKNOWN_BYTES = 1 << 20
"""What a value of unknown shape is taken to need."""


def make_report(
    outcome: Outcome,
    graph: Graph,
    *,
    model: str,
    output: Path,
    size_before: int,
    settings: Mapping[str, str],
    form: str,
    data: CalibrationData | None = None,
    runner: Runner | None = None,
    types: Mapping[Value, ValueType] | None = None,
    metric: str = "",
    allowed_drop: float | None = None,
    is_calibrated: bool = True,
) -> Report:
    """The report of a quantization.

    Args:
        outcome: what came of it.
        graph: the float graph that it was made of, equalized if that was asked for.
        model, output: the file before, for people to read, and the one written.
        size_before: of the file before, with the weights beside it, in bytes.
        settings: what was asked for, in words.
        form: what quantized nodes became whose encoding does not tell ("fp16").
        data: samples to compare layers with, the first of them; None: layers are not compared.
        runner: where to run both graphs.
        types: of values of ``graph``, to tell what they take.
        metric, allowed_drop: what the outcome was judged by, where it was.
        is_calibrated: whether the scheme looks at data.

    Where no device that was chosen runs the quantized graph, the layers are not compared, and a note says why.
    """
    errors: dict[str, ErrorSums] = {}
    notes = list(outcome.notes)
    if data is not None:
        feeds = [feeds for _, feeds in itertools.islice(data, MEASURED_SAMPLES)]
        try:
            errors = _by_step(outcome, compared(graph, outcome.graph, feeds, runner or Runner(), types or {}))
        except CancelledError:
            raise
        except MaceError as error:
            notes.append(f"The layers were not compared with those in float: {error_text(error)}")
    alone = dict(outcome.sensitivity)
    quantized = set(outcome.nodes)
    layers = [
        _layer(node, outcome, form if node.name in quantized else "float", errors, alone.get(node.name))
        for node in graph.nodes
    ]
    judged = outcome.judged
    return Report(
        model=model,
        output=str(output),
        size_before=size_before,
        size_after=bytes_with_data(output),
        settings=settings,
        samples=outcome.samples,
        is_calibrated=is_calibrated,
        layers=layers,
        values=_values(graph, outcome),
        metric=None if judged is None else Metric(metric or "accuracy", judged.before, judged.after, allowed_drop),
        notes=notes,
    )


def bytes_with_data(path: Path) -> int:
    """Of a model file and of the weights that it keeps in other files."""
    own = path.resolve()
    sources = {
        constant.source
        for graph in _graphs(load_model(path))
        for value in graph.initializers.values()
        if (constant := value.constant) is not None
    }
    beside = (source.nbytes for source in sources if source is not None and Path(source.path).resolve() != own)
    return path.stat().st_size + sum(beside)


def _graphs(graph: Graph) -> Iterator[Graph]:
    yield graph
    for node in graph.nodes:
        for body in node.subgraphs():
            yield from _graphs(body)


def _by_step(outcome: Outcome, errors: Mapping[str, ErrorSums]) -> dict[str, ErrorSums]:
    """Errors with those of an activation that a product or sum computes in the same step at the latter's result."""
    found = dict(errors)
    activations = {} if outcome.configuration is None else outcome.configuration.activations
    for node, activation in activations.items():
        own, result = node.outputs[0], activation.outputs[0]
        if own is not None and result is not None and own.name not in found and result.name in found:
            found[own.name] = found.pop(result.name)
    return found


def size_of(model: object, graph: Graph) -> int:
    """Bytes of a model as it was given: of its file, or of what would be in one, but for a ``Graph`` its constants."""
    if isinstance(model, str | os.PathLike):
        return bytes_with_data(Path(model))
    if isinstance(model, bytes | bytearray | memoryview):
        return len(model)
    if not isinstance(model, Graph):
        return int(model.ByteSize())  # type: ignore[attr-defined] # a ModelProto
    return sum(value.constant.nbytes for value in graph.initializers.values() if value.constant is not None)


def counterparts(graph: Graph, quantized: Graph) -> dict[str, str]:
    """Values that nodes of the float graph compute -> the values of the quantized graph that stand for them: what is
    dequantized again, where they are quantized."""
    known = {value.name for node in quantized.nodes for value in node.outputs if value is not None}
    stored = {n.inputs[0]: n.outputs[0] for n in quantized.nodes if n.op_type == "QuantizeLinear"}
    decoded = {n.inputs[0]: n.outputs[0] for n in quantized.nodes if n.op_type == "DequantizeLinear"}
    behind = {
        source.name: result.name
        for source, integers in stored.items()
        if source is not None and (result := decoded.get(integers)) is not None
    }
    found = {}
    for node in graph.nodes:
        for value in node.outputs:
            if value is not None and value.name in known:
                found[value.name] = behind.get(value.name, value.name)
    return found


def compared(
    graph: Graph,
    quantized: Graph,
    feeds: Sequence[Mapping[str, npt.NDArray[Any]]],
    runner: Runner,
    types: Mapping[Value, ValueType],
) -> dict[str, ErrorSums]:
    """How far the values of the quantized graph are from those of the float graph, by the latter's names.

    Values that are compared in one pass take no more memory than the runner allows.

    Raises:
        MaceError: if a graph cannot be run.
    """
    pairs = counterparts(graph, quantized)
    computed = [value for node in graph.nodes for value in node.outputs if value is not None and value.name in pairs]
    floats = [value for value in computed if _may_be_float(types.get(value, value.type))]
    found: dict[str, ErrorSums] = {}
    groups = list(_groups(floats, types, runner.memory_bytes // 2))
    for number, group in enumerate(groups):
        names = {value.name: pairs[value.name] for value in group}
        with _opened(graph, names, runner) as one, _opened(quantized, names.values(), runner) as other:
            for at, sample in enumerate(feeds):
                report_progress("comparing layers", number * len(feeds) + at, len(groups) * len(feeds))
                wanted, got = one.run(sample), other.run(sample)
                for name, counterpart in names.items():
                    x, y = got[counterpart], wanted[name]
                    if (
                        isinstance(x, np.ndarray)
                        and isinstance(y, np.ndarray)
                        and y.dtype.kind == "f"
                        and x.shape == y.shape
                    ):
                        found.setdefault(name, ErrorSums()).update(x, y)
    report_progress("comparing layers", 1, 1)
    return found


def _opened(graph: Graph, names: Any, runner: Runner) -> Session:
    copy, _ = copy_graph(graph)
    by_name = {value.name: value for node in copy.nodes for value in node.outputs if value is not None}
    part = subset(copy, [by_name[name] for name in dict.fromkeys(names)])
    return Session(part, devices=runner.devices, options=runner.options, optimize=False, cache=False)


def _groups(values: Sequence[Value], types: Mapping[Value, ValueType], most: int) -> Iterator[list[Value]]:
    group: list[Value] = []
    total = 0
    for value in values:
        size = _bytes_of(types.get(value, value.type))
        if group and total + size > most:
            yield group
            group, total = [], 0
        group.append(value)
        total += size
    if group:
        yield group


def _bytes_of(type: ValueType | None) -> int:
    if not isinstance(type, TensorType) or type.shape is None or not type.is_concrete:
        return _UNKNOWN_BYTES
    return math.prod(int(size) for size in type.shape if isinstance(size, int)) * max(type.dtype.bits // 8, 1)


def _may_be_float(type: ValueType | None) -> bool:
    return type is None or (isinstance(type, TensorType) and type.dtype.is_float)


def _layer(
    node: Node, outcome: Outcome, form: str, errors: Mapping[str, ErrorSums], alone: float | None
) -> LayerFinding:
    output = next((value.name for value in node.outputs if value is not None), "")
    sums = errors.get(output)
    loss, before, after = _weights(node, outcome)
    stored = outcome.weights.get(node.name)
    encoding = outcome.encodings.get(output)
    is_quantized = form != "float"
    if is_quantized and stored is not None:
        form = stored[1].dtype.label
    elif is_quantized and encoding is not None:
        form = encoding.dtype.label
    return LayerFinding(
        name=node.name,
        op_type=node.qualified_op,
        output=output,
        form=form,
        reason="" if is_quantized else outcome.floats.get(node.name, ""),
        sqnr_db=None if sums is None else sums.sqnr_db,
        cosine=None if sums is None else sums.cosine,
        alone_sqnr_db=alone,
        weight_sqnr_db=loss,
        float_bytes=before,
        stored_bytes=after,
    )


def _weights(node: Node, outcome: Outcome) -> tuple[float | None, int, int]:
    """SQNR of the weights of a node, their bytes as floats and as stored; None and zeros where it has none."""
    if node.name not in outcome.weights:
        return None, 0, 0
    integers, encoding = outcome.weights[node.name]
    decoded = dequantize(integers, encoding)
    stored = encoding.dtype.nbytes(integers.size) + encoding.scale.nbytes + encoding.dtype.nbytes(encoding.scale.size)
    for value in node.inputs:
        if value is not None and value.constant is not None and value.constant.dtype.is_float:
            weights = value.constant.numpy()
            if weights.shape == decoded.shape:
                return sqnr_db(decoded, weights), value.constant.nbytes, stored
    return None, 4 * integers.size, stored


def _values(graph: Graph, outcome: Outcome) -> list[ValueFinding]:
    producers = {value.name: node.name for node in graph.nodes for value in node.outputs if value is not None}
    return [
        value_finding(outcome.observers[name], encoding, producers.get(name, ""))
        for name, encoding in outcome.encodings.items()
        if name in outcome.observers and outcome.observers[name].count and encoding.scale.ndim == 0
    ]


def write_report(path: Path, found: Report) -> None:
    """Write a report to a file: a page if its name ends in ``.html``, else JSON; the file appears whole or not at all.

    Raises:
        MaceError: if it cannot be written.
    """
    import json

    from mace_core.host.files import replacing
    from mace_core.quantization.report.page import html
    from mace_core.quantization.report.summary import report_json

    is_page = path.suffix.lower() in (".html", ".htm")
    content = html(found) if is_page else json.dumps(report_json(found), indent=2, ensure_ascii=False, allow_nan=False)
    try:
        with replacing(path) as file:
            file.write(content.encode())
    except OSError as error:
        raise MaceError(f"the report '{path}' cannot be written: {error.strerror or error}") from error
