"""Writing packages: a model made ready, its weights in the form asked for, its samples."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mace_core.errors import UsageError
from mace_core.graph import Graph
from mace_core.host.file_forms import PACKAGE_SUFFIX
from mace_core.package import NewSection, write_package
from mace_core.package.graphs import MODEL, OPTIMIZED, SOURCE, graph_sections
from mace_core.package.keys import read_signing_key
from mace_core.package.samples import Sample, check_fits, sample_sections
from mace_core.package.weight_forms import FORMS, store_weights_as
from mace_core.provider.registry import Registry, default_registry
from mace_core.scheduler.opening import SessionArguments, load
from mace_core.scheduler.planning.custom_ops import provide_custom_ops
from mace_core.version import VERSION

if TYPE_CHECKING:
    from mace_core.frontend.load import Model


def store_model(
    model: Model,
    out: str | os.PathLike[str],
    *,
    weights: str = "",
    optimize: bool = True,
    samples: Sequence[Sample] = (),
    sign_with: Sequence[str | os.PathLike[str]] = (),
    registry: Registry | None = None,
) -> int:
    """Write a package with the graph and its weights alone; devices compile where it runs.

    Args:
        model, out: as for `compile_model`.
        weights: store those in float32 as "float16" or "bfloat16", or large ones of products as "int8" with a scale for
            each channel; they are computed with in float32, as rounded.  "": as they are.
        optimize: simplify the graph first.
        samples, sign_with: as for `compile_model`.
        registry: where custom operators are found; the process's own by default.

    Returns:
        The size of the file in bytes.

    Raises:
        ModelError: if the model cannot be read.
        UsageError: for a name or a form of weights that means nothing.
        InputError: if a sample is of another model.
        MaceError: if the file cannot be written.
    """
    path = package_path(out, weights)
    given = SessionArguments.for_writing(optimize=optimize, registry=registry)
    keys = [read_signing_key(key) for key in sign_with]
    loaded = LoadedModel(model, given, registry or default_registry(), weights)
    sections = [*graph_sections(loaded.graphs), *loaded.sections_of(samples)]
    return write_package(path, sections, loaded.metadata, keys=keys)


def package_path(out: str | os.PathLike[str], weights: str) -> Path:
    """The path of a package that is to be written.

    Raises:
        UsageError: for a name that is not a package's, and a form of weights that there is not.
    """
    path = Path(out)
    if path.suffix.lower() != PACKAGE_SUFFIX:
        right = f"{path.stem or 'model'}{PACKAGE_SUFFIX}"
        raise UsageError(f"the name of a package ends in {PACKAGE_SUFFIX}, not '{path.name}': write to '{right}'")
    if weights and weights not in FORMS:
        raise UsageError(f"weights are stored as {', '.join(FORMS)} or as they are, not as '{weights}'")
    return path


class LoadedModel:
    """A model made ready to be written.

    Attributes:
        label: for messages.
        graphs: by their names in a package.
        metadata: of the package.
    """

    def __init__(
        self, model: Model, given: SessionArguments, registry: Registry, weights: str, without: Graph | None = None
    ) -> None:
        """``without``: the model without the steps that ``model`` has before and after it, if it has any."""
        prepared, load_again = load(model, given, registry)
        self.label = prepared.label
        self.graphs = {OPTIMIZED: prepared.graph}
        if prepared.graph.defaults and load_again is not None:
            self.graphs[SOURCE] = load_again()
        if without is not None:
            self.graphs[MODEL] = load(without, given, registry)[0].graph
        provide_custom_ops(prepared.graph, registry)
        if weights:
            for graph in self.graphs.values():
                store_weights_as(graph, weights)
        self.metadata = {"made_by": f"mace-core {VERSION}", "model": _name_of(model, prepared.graph)}

    def sections_of(self, samples: Sequence[Sample]) -> list[NewSection]:
        """The sections of samples of this model.

        Raises:
            InputError: if a sample is of another model.
        """
        for sample in samples:
            check_fits(sample, self.graphs[OPTIMIZED], self.label)
        return list(sample_sections(samples))


def _name_of(model: Model, graph: Graph) -> str:
    """The name of the model's file alone: where it was is nobody's business."""
    return Path(model).name if isinstance(model, str | os.PathLike) else graph.name
