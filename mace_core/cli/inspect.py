"""`mace inspect`: what a model file holds, without running it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mace_core.cli.options import Model
from mace_core.cli.shared_options import OutputOptions, ReadingOptions, shared_options
from mace_core.cli.written_files import check_target
from mace_core.errors import ModelError

if TYPE_CHECKING:
    from mace_core.inspection import Inspection
    from mace_core.inspection.facts import CompiledFact, ValueFact
    from mace_core.presentation import Table

LONGEST_SHOWN = 120
"""Characters of a property or a metadata value."""


@shared_options
def inspect(
    model: Model,
    *,
    shape: Annotated[
        list[str],
        typer.Option(
            "--shape",
            metavar="NAME=1x3x48x320",
            help="Shape of an input with free dimensions, for the figures; may be repeated.",
            show_default=False,
        ),
    ] = [],  # noqa: B006 - typer copies it
    page: Annotated[
        Path | None,
        typer.Option(
            "--html",
            metavar="FILE.html",
            help="Also write one page that shows the graph, every node and the weights; it works offline.",
            show_default=False,
        ),
    ] = None,
    reading: ReadingOptions,
    output: OutputOptions,
) -> None:
    """Show what a model contains: inputs, outputs, operators, parameters, work, memory, metadata, problems.

    This runs nothing and needs no provider. If the model cannot be loaded, it shows as much as the file reveals. Models
    of PyTorch (.pt2), Keras, TensorFlow and scikit-learn are exported by their framework first, which has to be
    installed; a message says how.

    Examples:

      mace inspect model.onnx

      mace inspect model.tflite --html model.html

      mace inspect model.pt2 --shape x=1x3x48x320 --json

      mace inspect model.mace

      mace --trust inspect pipeline.joblib
    """
    from mace_core.cli.output import print_line, progress
    from mace_core.inspection import examine_model

    check_target("--html", page, (".html", ".htm"))
    with progress(f"Reading {model}"):
        found, graph, resolution = examine_model(model, _shapes(model, shape))
    if page is not None:
        if graph is None:
            raise ModelError(f"'{model}' has no graph to show: {found.problems[0].text}")
        from mace_core.cli.inspect_page import summary
        from mace_core.report.graph_page import write_graph_page

        types = {} if resolution is None else resolution.types
        with progress(f"Writing {page}"):
            write_graph_page(page, graph, types, Path(model).name or model, summary(found))

    def text() -> None:
        _print(found, output)
        if page is not None:
            print_line(f"{page} written")

    output.deliver("inspect", {**found.as_data(), "page": None if page is None else str(page)}, text)


def _shapes(model: str, texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    if not texts:
        return {}
    from mace_core.cli.inputs import parse_shapes
    from mace_core.frontend.load import load_model
    from mace_core.scheduler.planning.specs import spec_of

    return parse_shapes(texts, [spec_of(value) for value in load_model(model).inputs])


def _print(found: Inspection, options: OutputOptions) -> None:
    from mace_core.cli.output import format_bytes, print_folded, print_line, print_table

    opsets = ", ".join(f"{domain} {version}" for domain, version in found.opsets.items())
    print_folded(f"{found.model}: {format_bytes(found.file_bytes)}, opset {opsets or 'unknown'}")
    for key, value in found.properties.items():
        print_folded(f"{key}: {_shortened(value)}")
    for line in _figures(found):
        print_folded(line)
    for table in _tables(found):
        if table.rows:
            print_line()
            print_table(options.shown(table))
    print_line()
    if not found.problems:
        print_line("no problems found")
    for problem in found.problems:
        print_folded(f"{problem.severity.value}: {problem.text}")
        if problem.hint:
            print_folded(f"    {problem.hint}")


def _figures(found: Inspection) -> list[str]:
    from mace_core.cli.output import format_bytes

    lines = [f"parameters: {found.parameter_count:,} in {format_bytes(found.weight_bytes)}"]
    if found.macs is not None and found.peak_activation_bytes is not None:
        shapes = ", ".join(f"{name}={'x'.join(map(str, shape)) or 'scalar'}" for name, shape in found.shapes.items())
        assumed = f" (assumed: {found.assumed})" if found.assumed else ""
        lines.append(f"at {shapes or 'no inputs'}{assumed}:")
        work = f"{found.macs / 1e9:.3f} G" if found.macs >= 1e7 or not found.macs else f"{found.macs / 1e6:.3f} M"
        lines.append(f"  multiply-accumulates: {work} a run")
        activations, total = found.peak_activation_bytes, found.peak_activation_bytes + found.weight_bytes
        lines.append(f"  memory: {format_bytes(total)}, of which activations {format_bytes(activations)} at the peak")
        if found.unsized:
            lines.append(f"  {found.unsized} nodes have results whose size the run decides; they are not counted")
    return lines


def _remark(end: ValueFact) -> str:
    return "optional" if end.is_optional else "state, kept from run to run" if end.is_state else ""


def _tables(found: Inspection) -> list[Table]:
    from mace_core.cli.output import format_bytes
    from mace_core.presentation import Column, Table, number, prose

    ends = [("input", each.name, each.type, _remark(each)) for each in found.inputs]
    ends += [("output", each.name, each.type, _remark(each)) for each in found.outputs]
    kinds = [(c.dtype, f"{c.tensors}", f"{c.elements:,}", format_bytes(c.nbytes)) for c in found.parameters]
    metadata = list(found.metadata.items())
    counts = number("subgraphs"), number("nodes")
    compiled = [
        (
            each.device,
            each.signature,
            f"{each.subgraphs}",
            f"{each.nodes}",
            format_bytes(each.nbytes),
            _made_under(each),
        )
        for each in found.compiled
    ]
    sections = [(each.kind, each.name[:16], f"{each.offset}", format_bytes(each.nbytes)) for each in found.sections]
    operators = [(operator, str(count)) for operator, count in found.operators.items()]
    own = [(operator, str(count)) for operator, count in found.file_operators.items()]
    layers = [
        (each.name or "(the model itself)", each.kind, f"{each.nodes}", f"{each.parameters:,}", _millions(each.macs))
        for each in found.layers
    ]
    steps = [(each.when, each.step, _options(each.options)) for each in found.steps]
    samples = [(each.name, each.source, each.expected_by) for each in found.samples]
    documents = [
        (each.role, each.name, format_bytes(len(each.text.encode())), _first(each.text)) for each in found.documents
    ]
    states = {True: "fits", False: "does NOT fit", None: "not compared: the extra 'sign' is not installed"}
    signatures = [(each.key, states[each.fits]) for each in found.signatures]
    work = number("nodes", 3), number("parameters", 2), number("MMAC", 1)
    return [
        Table((Column("", 2), Column("name"), prose("type"), Column("", 1)), ends),
        Table((Column("parameters"), number("tensors", 2), number("elements", 1), number("size")), kinds),
        Table((Column("operator of the file"), number("count")), own),
        Table((Column("operator" if not own else "imported as"), number("nodes")), operators),
        Table((Column("layer"), Column("class", 1), *work), layers),
        Table((Column("metadata"), prose("value", 1)), [(key, _shortened(text)) for key, text in metadata]),
        Table((Column("compiled for"), prose("inputs"), *counts, number("size"), prose("depends on", 1)), compiled),
        Table((Column("step"), Column("name"), prose("options", 1)), steps),
        Table((Column("sample"), prose("inputs"), prose("expected by", 1)), samples),
        Table((Column("document"), Column("name"), number("size"), prose("begins with", 1)), documents),
        Table((Column("signed by the key"), prose("signature")), signatures),
        Table((Column("section"), prose("name", 1), number("at"), number("size")), sections),
    ]


def _options(options: Mapping[str, Any]) -> str:
    def text(value: Any) -> str:
        if isinstance(value, list | tuple):
            return ",".join(text(item) for item in value)
        return f"{value:g}" if isinstance(value, float) else str(value)

    shown = [f"{key}={text(value)}" for key, value in options.items() if value not in ("", None, [], False)]
    return _shortened(" ".join(shown))


def _first(text: str) -> str:
    """The first line that says something."""
    return _shortened(next((line.strip() for line in text.splitlines() if line.strip()), ""))


def _millions(macs: int) -> str:
    return f"{macs / 1e6:.2f}" if macs else ""


def _made_under(each: CompiledFact) -> str:
    options = "" if each.options == "{}" else f"; options {each.options}"
    return f"{each.compatibility}{options}"


def _shortened(text: str) -> str:
    """The beginning of what is longer than anyone reads: vocabularies are kept in metadata."""
    if len(text) <= LONGEST_SHOWN:
        return text
    return f"{text[:LONGEST_SHOWN]}… ({len(text)} characters; --json has all)"
