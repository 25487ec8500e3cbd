"""Samples that a command puts into a package: from files, pictures and random numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mace_core.cli.inputs import load_inputs, random_input
from mace_core.errors import InputError, MaceError, UsageError
from mace_core.scheduler.planning.specs import ValueSpec, spec_of

if TYPE_CHECKING:
    from mace_core.cli.shared_options import SampleOptions
    from mace_core.graph import Graph
    from mace_core.package import Sample


def gather_samples(
    graph: Graph, label: str, options: SampleOptions, shapes: Mapping[str, Sequence[int]]
) -> list[Sample]:
    """The samples that options ask for.

    Args:
        graph: the model that goes into the package; not changed.
        label: how messages call it.
        options: of the command.
        shapes: of its inputs, where they are known; random samples have them, and pictures are resized to them.

    Raises:
        UsageError, InputError: for a file that is no sample of this model, or options that mean nothing.
        MaceError: if nothing computes what is expected.
    """
    if not options.sample and not options.random_samples:
        if options.is_asked_for:
            raise UsageError("there is no sample to expect anything of: give --sample FILE or --random-samples N")
        return []
    from mace_core.compilation import settled_shapes
    from mace_core.numerics import make_samples

    specs = [spec_of(value) for value in graph.inputs]
    feeds: dict[str, dict[str, Any]] = {}
    sources: dict[str, str] = {}
    for text in options.sample:
        name = Path(text).stem
        if name in feeds:
            raise UsageError(f"--sample {text}: another sample is named '{name}': rename one of the files")
        feeds[name] = _from_file(text, specs, options, shapes)
        sources[name] = Path(text).name
    if options.random_samples:
        chosen = settled_shapes(graph, shapes, label)
        for number in range(options.random_samples):
            seed = options.seed + number
            generator = np.random.default_rng(seed)
            name = f"random-{seed}"
            feeds[name] = {spec.name: random_input(spec, chosen.shapes[spec.name], generator) for spec in specs}
            sources[name] = f"random numbers, seed {seed}"
    tolerances = _tolerances(options.sample_tolerance)
    try:
        return make_samples(
            options.expected_from or graph, feeds, by=options.expected_by, sources=sources, tolerances=tolerances
        )
    except MaceError as error:
        whole = [f"'{spec.name}'" for spec in specs if spec.dtype.is_integer]
        if not options.random_samples or not whole:
            raise
        raise InputError(
            f"{error} (the random numbers for {', '.join(whole)} may be none that the model takes: fix an input with "
            "--set NAME=VALUE, or give --sample FILE.npz)"
        ) from error


def _from_file(
    text: str, specs: Sequence[ValueSpec], options: SampleOptions, shapes: Mapping[str, Sequence[int]]
) -> dict[str, Any]:
    path = Path(text)
    if path.suffix.lower() == ".npz":
        given = replace(options.pictures, npz=path)
    elif len(specs) == 1:
        given = replace(options.pictures, input=[f"{specs[0].name}={text}"])
    else:
        names = ", ".join(f"'{spec}'" for spec in specs)
        raise UsageError(f"--sample {text}: the model has {len(specs)} inputs ({names}): give an .npz file with all")
    return load_inputs(specs, given, {name: tuple(shape) for name, shape in shapes.items()} if given.input else {})


def _tolerances(texts: Sequence[str]) -> dict[str, float]:
    found = {}
    for text in texts:
        name, equals, number = text.rpartition("=")
        try:
            found[name] = float(number)
        except ValueError:
            equals = ""
        if not name or not equals:
            raise UsageError(f"--sample-tolerance {text}: write it DEVICE=NUMBER, like hexagon=0.02")
    return found
