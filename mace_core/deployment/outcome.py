"""What a conversion made, for people and programs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mace_core.deployment.judge import Judgement
from mace_core.deployment.read import DEFAULT_GRAPH
from mace_core.version import VERSION

if TYPE_CHECKING:
    from mace_core.deployment.libraries import BuiltLibrary


@dataclass(slots=True)
class Converted:
    """One graph of one model.

    Attributes:
        model, graph: their names.
        source: the model file.
        package: what was written, within the folder of the conversion; None where libraries alone were asked for.
        nbytes, source_bytes: sizes of the two.
        precision: in words.
        nodes, quantized: of the graph; how many compute in fewer bits.
        compiled: devices, by what was compiled for each.
        judgement: how it compares; None where nothing was compared.
        ranges: the file of ranges that was asked for, within the folder.
        page: that shows the graph, within the folder, where one was asked for.
        samples: runs with known results in the package.
        notes: what should be told.
        warnings: what should be looked at.
    """

    model: str
    graph: str
    source: Path
    package: Path | None
    nbytes: int = 0
    source_bytes: int = 0
    precision: str = ""
    nodes: int = 0
    quantized: int = 0
    compiled: dict[str, str] = field(default_factory=dict)
    judgement: Judgement | None = None
    ranges: Path | None = None
    page: Path | None = None
    samples: int = 0
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def label(self) -> str:
        """The name of the model, and of its graph where it is one of several."""
        return self.model if self.graph == DEFAULT_GRAPH else f"{self.model}.{self.graph}"

    @property
    def is_good(self) -> bool:
        """Whether all that was compared is near enough."""
        return self.judgement is None or self.judgement.is_good


@dataclass(slots=True)
class Conversion:
    """What a conversion made.

    Attributes:
        folder: where it is.
        library: its name.
        target_abis: what was built for.
        models: one for each graph.
        libraries: one for each ABI that a library was built for.
        notes: what should be told of the file itself.
    """

    folder: Path
    library: str
    target_abis: tuple[str, ...]
    models: list[Converted] = field(default_factory=list)
    libraries: list[BuiltLibrary] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """Whether all that was compared is near enough, and every library was built."""
        return all(model.is_good for model in self.models) and not any(each.failure for each in self.libraries)


def as_data(done: Conversion) -> dict[str, Any]:
    """What was done, for JSON."""
    return {
        "library": done.library,
        "folder": str(done.folder),
        "target_abis": list(done.target_abis),
        "made_by": f"mace-core {VERSION}",
        "ok": done.is_good,
        "notes": done.notes,
        "models": [_model_data(model) for model in done.models],
        "libraries": [dataclasses.asdict(each) for each in done.libraries],
    }


def _model_data(model: Converted) -> dict[str, Any]:
    return {
        "model": model.model,
        "graph": model.graph,
        "source": str(model.source),
        "package": None if model.package is None else str(model.package),
        "bytes": {"source": model.source_bytes, "package": model.nbytes},
        "precision": model.precision,
        "nodes": model.nodes,
        "quantized": model.quantized,
        "compiled": model.compiled,
        "samples": model.samples,
        "ranges": None if model.ranges is None else str(model.ranges),
        "page": None if model.page is None else str(model.page),
        "validation": None if model.judgement is None else _judgement_data(model.judgement),
        "notes": model.notes,
        "warnings": model.warnings,
    }


def _judgement_data(judgement: Judgement) -> dict[str, Any]:
    return {
        "against": judgement.against,
        "inputs": judgement.inputs,
        "ok": judgement.is_good,
        "outputs": [
            {
                "device": each.device,
                "output": each.output,
                "similarity": each.similarity,
                "sqnr_db": each.sqnr_db,
                "agreement": each.agreement,
                "threshold": each.threshold,
                "samples": each.samples,
                "elsewhere": each.elsewhere,
                "checked": each.is_checked,
                "ok": each.is_good,
                "failure": each.failure,
            }
            for each in judgement.verdicts
        ],
    }
