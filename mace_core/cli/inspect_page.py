"""What the page of `mace inspect` shows beside the graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mace_core.cli.output import format_bytes

if TYPE_CHECKING:
    from mace_core.inspection import Inspection


LONGEST_SHOWN = 2_000
"""Characters of a property or a metadata value."""


def summary(found: Inspection) -> dict[str, Any]:
    """Figures, problems and tables as the program of the page takes them."""
    shapes = ", ".join(f"{name}={'x'.join(map(str, shape)) or 'scalar'}" for name, shape in found.shapes.items())
    opsets = ", ".join(f"{domain} {version}" for domain, version in found.opsets.items())
    told = [
        f"opset {opsets}" if opsets else "",
        f"figures for {shapes}" if shapes else "",
        found.assumed and "assumed sizes",
    ]
    return {
        "signature": "; ".join(filter(None, told)),
        "cards": _cards(found),
        "problems": [[each.severity.value, each.text, each.hint] for each in found.problems],
        "tables": [table for table in _tables(found) if table["rows"]],
    }


def _cards(found: Inspection) -> list[list[str]]:
    cards = [
        [f"{sum(found.operators.values()):,}", "nodes"],
        [f"{found.parameter_count:,}", f"parameters in {format_bytes(found.weight_bytes)}"],
    ]
    if found.macs is not None:
        small = 0 < found.macs < 1e7
        cards.append([f"{found.macs / 1e6:.3f} MMAC" if small else f"{found.macs / 1e9:.3f} GMAC", "a run"])
    if found.peak_activation_bytes is not None:
        cards.append([format_bytes(found.peak_activation_bytes), "activations at the peak"])
    return [*cards, [format_bytes(found.file_bytes), "file"]]


def _beginning(text: str) -> str:
    """Of what is longer than anyone reads: vocabularies are kept in metadata."""
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}… ({len(text):,} characters)"


def _tables(found: Inspection) -> list[dict[str, Any]]:
    ends = [["input" + " (optional)" * each.is_optional, each.name, each.type] for each in found.inputs]
    ends += [["output", each.name, each.type] for each in found.outputs]
    for row, end in zip(ends, (*found.inputs, *found.outputs), strict=True):
        row[0] += " (state)" * end.is_state
    kinds = [[c.dtype, f"{c.tensors:,}", f"{c.elements:,}", format_bytes(c.nbytes)] for c in found.parameters]
    layers = [
        [each.name or "(the model itself)", each.kind, f"{each.parameters:,}", f"{each.macs / 1e6:.2f}"]
        for each in found.layers
    ]
    told = [[key, _beginning(text)] for key, text in (*found.properties.items(), *found.metadata.items())]
    return [
        {"title": "Inputs and outputs", "columns": ["", "name", "type"], "rows": ends},
        {
            "title": "Operators of the file",
            "columns": ["operator", "#count"],
            "rows": [[operator, f"{count:,}"] for operator, count in found.file_operators.items()],
        },
        {
            "title": "Operators",
            "columns": ["operator", "#nodes"],
            "rows": [[operator, f"{count:,}"] for operator, count in found.operators.items()],
            "pick": True,
        },
        {"title": "Layers", "columns": ["layer", "class", "#parameters", "#MMAC"], "rows": layers, "pick": True},
        {"title": "Parameters", "columns": ["type", "#tensors", "#elements", "#size"], "rows": kinds},
        {"title": "Metadata", "columns": ["key", "value"], "rows": told},
    ]
