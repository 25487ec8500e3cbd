"""Compiling ahead of time, from the arguments on."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mace_core.compilation.compiling import Compiling, Extras
from mace_core.compilation.found import Compilation
from mace_core.errors import UsageError
from mace_core.graph import Graph
from mace_core.package.documents import Document
from mace_core.package.keys import read_signing_key
from mace_core.package.samples import Sample
from mace_core.processing import Step, fix_inputs, with_steps
from mace_core.provider.registry import Registry, default_registry
from mace_core.scheduler.opening import SessionArguments
from mace_core.scheduler.planning.arguments import device_names
from mace_core.storing import package_path

if TYPE_CHECKING:
    from mace_core.frontend.load import Model
    from mace_core.topology import TopologyReport


def compile_model(
    model: Model,
    out: str | os.PathLike[str],
    *,
    devices: Sequence[str] | str,
    shapes: Mapping[str, Sequence[int]] | Sequence[Mapping[str, Sequence[int]]] = (),
    options: Mapping[str, Mapping[str, object]] | None = None,
    strict: bool = False,
    optimize: bool = True,
    samples: Sequence[Sample] = (),
    sign_with: Sequence[str | os.PathLike[str]] = (),
    weights: str = "",
    repair: bool = False,
    fixed: Mapping[str, Any] | None = None,
    before: Sequence[Step] = (),
    after: Sequence[Step] = (),
    documents: Sequence[Document] = (),
    registry: Registry | None = None,
) -> Compilation:
    """Compile a model for devices, and write a package: the graph, its weights, and what was compiled.

    Args:
        model: a path, bytes, an ``onnx.ModelProto``, a ``Graph`` (taken over) or a package, whose graph is compiled.
        out: the file to write; ends in ``.mace``.  What was there stays until the new one is whole.
        devices: ``provider`` or ``provider:device`` each; targets that cannot run on this machine too.  The model is
            placed for each as a session of this device alone would place it.
        shapes: of the inputs, by name; a sequence of them for several signatures.  Usual sizes are assumed for
            dimensions that the model leaves free.
        options: per provider or device, as for `mace_core.Session`.
        strict: every node has to be in a compiled subgraph of the device.
        optimize: simplify the graph first.
        samples: runs whose results are known (`mace_core.numerics.make_samples`), by which the package proves itself.
        sign_with: files of private Ed25519 keys, each of which signs the package (`mace_core.package.signatures`).
        weights: store those in float32 as "float16", "bfloat16" or "int8" (see `store_model`).
        fixed: values of inputs that become constants (`mace_core.processing.fix_inputs`).
        before, after: steps of `mace_core.processing` that become parts of the graph; ``shapes`` and ``samples`` are of
            what goes in then.  ``Session(…, processing=False)`` opens the model without them.
        documents: the quantization report, licenses and the model card (`mace_core.package.documents`).
        repair: put other forms in the place of nodes that a device refuses, where it takes them and they compute the
            same (`mace_core.topology`); they are for the shapes given, so there can be one signature only, unless all
            shapes are fixed.
        registry: where providers are found; the process's own by default.

    Raises:
        ModelError: if the model cannot be read.
        UsageError, DeviceNotFoundError, PluginError: for devices, options or names that mean nothing.
        InputError: if the shapes do not fit the model.
        StrictPlacementError: if ``strict`` cannot be kept; says why for each node.
        UnsupportedError: if nothing can be compiled for a device, or it has no form to be stored.
        MaceError: if the file cannot be written.
    """
    path = package_path(out, weights)
    names = device_names([devices] if isinstance(devices, str) else devices)
    if not names:
        raise UsageError("a model is compiled for a device: name one, such as hexagon:v75 (`mace devices` lists them)")
    given = SessionArguments.for_writing(
        devices=names, options=options, strict=strict, optimize=optimize, registry=registry
    )
    signatures = [shapes] if isinstance(shapes, Mapping) else list(shapes)
    repairs: list[TopologyReport] = []
    name = _name_of(model)
    processed = None
    if fixed:
        model = fix_inputs(model, fixed)
    if before or after:
        processed = with_steps(model, before, after)
        model = processed.graph
    extras = Extras(samples, [read_signing_key(key) for key in sign_with], weights, processed, documents)
    if repair:
        model, repairs = _repaired(model, names, signatures, options, optimize=optimize, registry=registry)
    return Compiling(model, name, path, given, extras, registry or default_registry()).run(signatures, repairs)


def _repaired(
    model: Model,
    devices: Sequence[str],
    signatures: Sequence[Mapping[str, Sequence[int]]],
    options: Mapping[str, Mapping[str, object]] | None,
    *,
    optimize: bool,
    registry: Registry | None,
) -> tuple[Graph, list[TopologyReport]]:
    """The model with forms that the devices take, and what was found for each."""
    from mace_core.topology import check_topology

    if len(signatures) > 1:
        raise UsageError("rewrites are for one shape of each input: give one signature, or leave the repair out")
    reports = []
    for device in devices:
        found = check_topology(
            model, device, shapes=signatures[0] if signatures else {}, options=options, optimize=optimize,
            registry=registry,
        )  # fmt: skip
        reports.append(found)
        model = found.graph
    assert isinstance(model, Graph)
    return model, reports


def _name_of(model: Model) -> str:
    """The name of the model's file alone: where it was is nobody's business."""
    return Path(model).name if isinstance(model, str | os.PathLike) else ""
