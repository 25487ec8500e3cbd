"""`mace doctor`: is everything in order, and if not, what to do."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import typer

from mace_core.cli.exit_codes import VERDICT
from mace_core.cli.shared_options import OutputOptions, shared_options

_DISTRIBUTIONS = ("mace-core", "numpy", "onnx", "stevedore", "pluggy", "numba", "llvmlite", "pyopencl")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked.

    Attributes:
        topic: what was looked at.
        state: "ok", "note" (something is missing that need not be there) or "fail".
        text: what was found.
        hint: what to do.
    """

    topic: str
    state: str
    text: str
    hint: str = ""


@shared_options
def doctor(*, output: OutputOptions) -> None:
    """Check this installation: versions, cache, processor, plugins; run a small model on every real device.

    The exit code is 3 if something that is installed does not work.
    """
    from mace_core.cli.output import print_folded, progress
    from mace_core.cli.quiet import plugin_log_quiet

    findings: list[Finding] = []
    with plugin_log_quiet():
        for check in (_versions, _cache, _processor, _plugins, _devices):
            with progress(f"Checking {check.__name__.strip('_')}"):
                findings += _guarded(check)
    failed = any(finding.state == "fail" for finding in findings)

    def text() -> None:
        for finding in findings:
            print_folded(f"{finding.state:>4}  {finding.topic}: {finding.text}", indent=" " * 6)
            if finding.hint:
                print_folded(f"      {finding.hint}", indent=" " * 6)
        print_folded("everything that is installed works" if not failed else "something does not work, see 'fail'")

    rows = [{"topic": f.topic, "state": f.state, "text": f.text, "hint": f.hint} for f in findings]
    output.deliver("doctor", {"ok": not failed, "findings": rows}, text)
    if failed:
        raise typer.Exit(VERDICT)


def _guarded(check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """A check that breaks is a finding, and the others go on."""
    found: list[Finding] = []
    try:
        found.extend(check())
    except Exception as error:
        found.append(Finding(check.__name__.strip("_"), "fail", f"{type(error).__name__}: {error}"))
    return found


def _versions() -> Iterator[Finding]:
    from importlib.metadata import PackageNotFoundError, version

    yield Finding("python", "ok", f"{platform.python_version()} ({sys.executable}), {platform.platform()}")
    for name in _DISTRIBUTIONS:
        try:
            yield Finding(name, "ok", version(name))
        except PackageNotFoundError:
            yield Finding(name, "note", "not installed")


def _cache() -> Iterator[Finding]:
    from mace_core.caching.cache import CheckedCache, cache_dir
    from mace_core.cli.output import format_bytes
    from mace_core.version import VERSION

    probe = CheckedCache("doctor", VERSION)
    if fault := probe.fault():
        yield Finding("cache", "note", f"it is not used: {fault}", "every start compiles again until that is fixed")
        return
    folder = cache_dir()
    probe.put("probe", b"written")
    if probe.get("probe") != b"written":
        hint = "set MACE_CACHE_DIR to a writable folder, or every start compiles again"
        yield Finding("cache", "note", f"{folder} cannot be written to", hint)
        return
    probe.clear()
    files = [path for path in folder.glob("*/*.entry") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    yield Finding("cache", "ok", f"{folder} holds {len(files)} entries, {format_bytes(size)}")


def _processor() -> Iterator[Finding]:
    from mace_core.host.processors import describe_kinds
    from mace_core.host.threads import cgroup_quota, default_threads

    quota = cgroup_quota()
    limits = f"{os.cpu_count()} processors, {describe_kinds()}"
    if hasattr(os, "sched_getaffinity"):
        limits += f", {len(os.sched_getaffinity(0))} allowed by affinity"
    limits += f", {quota:g} by cgroup" if quota is not None else ", no cgroup limit"
    yield Finding("threads", "ok", f"{default_threads()} by default ({limits})")
    try:
        from mace_core.native.target import host_target

        target = host_target(None)
    except ImportError as error:
        yield Finding(
            "processor", "note", f"its features are not known without llvmlite ({error})", "pip install mace-cpu"
        )
        return
    yield Finding("processor", "ok", f"{target.cpu}, {target.triple}, vectors of {target.vector_bits} bits")


def _plugins() -> Iterator[Finding]:
    from mace_core.provider.hooks import default_hooks
    from mace_core.provider.plugin_status import PluginState
    from mace_core.provider.registry import default_registry

    for row in [*default_registry().plugins(load_all=True), *default_hooks().plugins()]:
        origin = " ".join((row.distribution, row.version, *_with(row.distribution)))
        if row.state is PluginState.OK:
            yield Finding(f"plugin {row.name}", "ok", origin)
        else:
            state = "note" if row.state is PluginState.DISABLED else "fail"
            yield Finding(f"plugin {row.name}", state, f"{origin}: {row.state.value}: {row.reason}")


def _with(distribution: str) -> Iterator[str]:
    """What is installed of all that a distribution can use, with versions: ``(openvino 2026.4.1, …)``, or nothing."""
    import re
    from importlib.metadata import PackageNotFoundError, requires, version

    if distribution == "mace-core":  # whose own are told by themselves
        return
    try:
        named = requires(distribution) or ()
    except PackageNotFoundError:  # registered by an application
        return
    used = []
    for name in dict.fromkeys(re.split(r"[^\w.-]", requirement, maxsplit=1)[0] for requirement in named):
        if name.startswith("mace-"):
            continue
        try:
            used.append(f"{name} {version(name)}")
        except PackageNotFoundError:  # of an extra
            continue
    if used:
        yield f"({', '.join(used)})"


def _devices() -> Iterator[Finding]:
    from mace_core.provider.inventory import inventory
    from mace_core.provider.listing import DeviceList

    found = inventory(refresh=True)
    for provider, held in DeviceList(found).held().items():
        yield Finding(f"devices of {provider}", "ok" if held else "note", held or "none")
        for item in found.missing.get(provider, ()):
            yield Finding(f"{provider}: {item.what}", "note", item.reason, item.hint)
    for device in found.real_devices:
        yield _try_device(device.qualified_name)


def _try_device(name: str) -> Finding:
    """Whether a device computes ``Relu(x @ w + b)`` right."""
    import numpy as np

    from mace_core.errors import MaceError, StrictPlacementError
    from mace_core.graph import Graph, Node, Value
    from mace_core.session import Session
    from mace_core.tensor import DType, Tensor, TensorType

    generator = np.random.default_rng(0)
    x, w, b = (generator.standard_normal(shape, np.float32) for shape in ((2, 8), (8, 4), (4,)))
    graph = Graph("doctor")
    graph.opset_imports[""] = 17
    data = Value("x", TensorType(DType.FLOAT32, x.shape))
    weight, bias = (Value(label, constant=Tensor.from_numpy(array)) for label, array in (("w", w), ("b", b)))
    product, total, result = (Value(label, TensorType(DType.FLOAT32, (2, 4))) for label in ("p", "t", "y"))
    graph.inputs, graph.outputs = [data], [result]
    graph.initializers = {"w": weight, "b": bias}
    graph.nodes = [
        Node("MatMul", [data, weight], [product], name="product"),
        Node("Add", [product, bias], [total], name="sum"),
        Node("Relu", [total], [result], name="relu"),
    ]
    try:
        with Session(graph, devices=[name], strict=True) as session:
            got = session.run({"x": x})["y"]
    except StrictPlacementError as error:
        return Finding(f"device {name}", "note", "it does not run the test model: " + " ".join(str(error).split()))
    except MaceError as error:
        return Finding(f"device {name}", "fail", f"the test model fails: {error}")
    worst = float(np.abs(got - np.maximum(x @ w + b, 0)).max())
    if not worst < 1e-2:
        return Finding(f"device {name}", "fail", f"the test model's result is wrong by {worst:g}")
    return Finding(f"device {name}", "ok", f"the test model runs, largest deviation {worst:.1e}")
