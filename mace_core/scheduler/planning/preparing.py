"""Makes a model ready for planning: loads and optimizes it, or takes what a cache or a package has of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mace_core.caching.build_id import build_id
from mace_core.graph import Graph
from mace_core.host.fork_safe import unforked
from mace_core.provider import hooks
from mace_core.scheduler.planning.model import PreparedModel
from mace_core.tensor import Tensor

if TYPE_CHECKING:
    from mace_core.frontend.load import Model
    from mace_core.package.signatures import Trust


@dataclass(frozen=True, slots=True)
class Constants:
    """How what depends on constants alone is computed.

    Attributes:
        compute: runs a graph without inputs.
        made_by: what the results depend on beside the graph; part of the keys of stored graphs.
        may_defer: what is too large to be folded may be left to the session (see `Graph.computed`).
    """

    compute: Callable[[Graph], Sequence[Tensor]]
    made_by: str
    may_defer: bool = True


def prepare_model(
    model: Model,
    *,
    optimize: bool,
    cache: bool,
    mmap: bool,
    constants: Constants | None = None,
    trust: Trust | None = None,
    signature: str | None = None,
    dynamic_range: str | None = None,
    processing: bool = True,
) -> PreparedModel:
    """Load and optimize, or take the optimized graph from the cache.

    Args:
        model: see `Session`.
        optimize: simplify the graph.
        cache: use the caches on disk.
        mmap: keep weights in the mapped file.
        constants: computes what depends on constants alone.
        trust: whose packages are used, and no other model; a ``Graph`` is the program's own.
        signature, dynamic_range: see `mace_core.frontend.load_model`.
        processing: with the steps before and after the model that a package may have.

    Raises:
        ModelError: if the model cannot be read.
        SignatureError: if it is not from somebody who is trusted.
        PluginError: if a plugin that adds graph passes fails to name them.
    """
    with unforked():  # importing onnx, which a forked child could not end for another thread
        return _prepare_model(model, optimize, cache, mmap, constants, trust, (signature, dynamic_range), processing)


def _prepare_model(
    model: Model,
    optimize_it: bool,
    cache: bool,
    mmap: bool,
    constants: Constants | None,
    trust: Trust | None,
    chosen: tuple[str | None, str | None],
    processing: bool,
) -> PreparedModel:
    packaged = _packaged(model, cache, mmap, trust, processing)
    signature, dynamic_range = chosen
    if packaged is not None:
        if signature is not None:
            from mace_core.frontend.package import PackageFrontend

            PackageFrontend().choosing(signature)
        return packaged
    if trust is not None and not isinstance(model, Graph):
        is_file = isinstance(model, str | os.PathLike)
        raise trust.refuse(f"'{os.fspath(model)}'" if is_file else "a model that is in no file")  # type: ignore[arg-type]
    extra = hooks.registered_passes() if optimize_it else []
    defers = constants is not None and constants.may_defer

    def simplify(graph: Graph) -> None:
        from mace_core.optimizer import default_passes, optimize

        compute = None if constants is None else constants.compute
        optimize(graph, [*default_passes(compute, defers=defers), *extra])
        if defers:
            from mace_core.optimizer.deferred import defer_constants

            defer_constants(graph)

    if cache and isinstance(model, str | os.PathLike):
        from mace_core.caching.cache import CheckedCache
        from mace_core.frontend.load import model_path
        from mace_core.frontend.warm import load_cached

        path = model_path(model)
        passes = ",".join(f"{type(p).__module__}.{type(p).__qualname__}" for p in extra)
        graph, fingerprint = load_cached(
            path,
            CheckedCache("graphs", build_id()),
            simplify if optimize_it else _leave,
            f"{optimize_it} {passes} {constants.made_by if constants is not None else ''} {defers}",
            mmap=mmap,
            signature=signature,
            dynamic_range=dynamic_range,
        )
        return PreparedModel(graph, f"'{path}'", fingerprint=fingerprint, cache=True, mmap=mmap)
    from mace_core.frontend.load import load_model

    graph = load_model(model, mmap=mmap, signature=signature, dynamic_range=dynamic_range)
    if optimize_it:
        simplify(graph)
    label = f"'{os.fspath(model)}'" if isinstance(model, str | os.PathLike) else _name_of(graph)
    return PreparedModel(graph, label, cache=cache, mmap=mmap)


def _packaged(model: Model, cache: bool, mmap: bool, trust: Trust | None, processing: bool) -> PreparedModel | None:
    """The model of a package, which was optimized when it was compiled; None where ``model`` is something else."""
    from mace_core.frontend.load import package_of

    # what was noted of a file's checksums says nothing of who could have changed it since
    package = package_of(model, cache=cache and trust is None, mmap=mmap)
    if package is None:
        return None
    if trust is not None:
        trust.check(package)
    from mace_core.operators.attributes import settle_attributes
    from mace_core.package.graphs import MODEL, OPTIMIZED, read_graph
    from mace_core.scheduler.planning.packaged import PackagedParts

    name = OPTIMIZED if processing or package.find("graph", MODEL) is None else MODEL
    graph = read_graph(package, name)
    settle_attributes(graph)
    parts = PackagedParts(package)
    key = package.digest if name == OPTIMIZED else f"{package.digest} {name}"
    return PreparedModel(graph, package.label, fingerprint=key, cache=cache, mmap=mmap, package=parts)


def _leave(graph: Graph) -> None:
    """No optimization asked for."""


def _name_of(graph: Graph) -> str:
    if graph.source_path is not None:
        return f"'{graph.source_path}'"
    return f"model '{graph.name}'" if graph.name else "the model"
