"""Imports go one way: a package imports only what lies below it, and nothing goes round in a circle.

docs/architecture.md shows the same picture.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from import_graph import Graph, circles, folded, import_graph

ROOT = Path(__file__).parents[2]

LAYERS: list[tuple[str, ...]] = [
    ("version", "errors", "json_values", "progress"),
    ("host", "faults"),
    ("activity", "caching", "presentation"),
    ("discovery",),
    ("symbolic",),
    ("tensor",),
    ("graph",),
    ("operators", "package"),
    ("custom_ops", "frontend", "optimizer"),
    ("inputs", "processing"),
    ("provider",),
    ("native",),
    ("scheduler",),
    ("topology",),
    ("storing",),
    ("binding", "requests", "compilation", "ahead_of_time", "policies"),
    ("streaming", "bound_arrays", "kept_state"),
    ("governor",),
    ("monitoring",),
    ("session",),
    ("inspection", "numerics", "testing", "calibration", "report", "measurement"),
    ("quantization",),
    ("sparsity",),
    ("deployment",),
    ("serving",),
    ("cli",),
]
"""The packages and modules of the core, from below."""

SCHEDULER: list[tuple[str, ...]] = [
    ("values", "growing", "notebook", "profile", "numerics", "context", "placing"),
    ("host", "costs"),
    ("planning",),
    ("running",),
    ("explain", "opening", "bound_state"),
    ("explaining",),
]
"""The parts of the scheduler, from below."""

PUBLIC = (
    "discovery",
    "errors",
    "frontend",
    "graph",
    "native",
    "operators",
    "policies",
    "provider",
    "symbolic",
    "tensor",
    "testing",
)
"""What plugins may import: of a package its own names and modules; all of it is documented and versioned.

``frontend`` is for SDKs that are given ONNX, ``discovery`` for plugins that have plugins."""

PLUGINS = {
    **{name: ROOT / "plugins" / name / f"mace_{name}" for name in ("cpu", "opencl", "hexagon", "apu", "npu")},
    "acme": ROOT / "examples" / "vendor_plugin" / "acme_npu",
}


def room(module: str, below: str) -> str:
    """The part of ``below`` a module lies in; ``below`` itself for what is directly in its ``__init__``."""
    rest = module.removeprefix(f"{below}.")
    return below if rest == module else rest.partition(".")[0]


def upward(graph: Graph, layers: list[tuple[str, ...]]) -> list[str]:
    """Imports that lead to the same layer or to one above, and rooms that are in no layer."""
    level = {name: height for height, names in enumerate(layers) for name in names}
    found = [f"{own} is in no layer" for own in graph if own not in level]
    for own, imported in graph.items():
        found += [f"{own} -> {other}" for other in imported if level.get(own, 0) <= level.get(other, 0)]
    return sorted(found)


@pytest.fixture(scope="module")
def core() -> Graph:
    return import_graph(ROOT / "mace_core")


def test_the_core_has_no_circle(core: Graph) -> None:
    assert circles(core) == []


def test_packages_import_what_lies_below_them(core: Graph) -> None:
    rooms = {module: room(module, "mace_core") for module in core}
    graph = folded(core, rooms)
    graph.pop("mace_core")  # resolves its names when they are used
    assert upward({own: imported - {"mace_core"} for own, imported in graph.items()}, LAYERS) == []


def test_the_scheduler_has_an_order_of_its_own(core: Graph) -> None:
    inner = {m: {o for o in imported if room(o, "mace_core") == "scheduler"} for m, imported in core.items()}
    inner = {module: imported for module, imported in inner.items() if room(module, "mace_core") == "scheduler"}
    rooms = {module: room(module, "mace_core.scheduler") for module in inner}
    graph = folded(inner, rooms)
    graph.pop("mace_core.scheduler")
    allowed = {("profile", "notebook"), ("context", "profile"), ("numerics", "values")}
    pairs = {own: {o for o in imported if (own, o) not in allowed} for own, imported in graph.items()}
    assert upward(pairs, SCHEDULER) == []


@pytest.mark.parametrize("name", PLUGINS)
def test_plugins_have_no_circle_and_import_what_is_public(core: Graph, name: str) -> None:
    graph = import_graph(PLUGINS[name], ROOT / "mace_core")
    own = {module: imported for module, imported in graph.items() if module not in core}
    assert circles(own) == []
    foreign = {other for imported in own.values() for other in imported if other in core}
    assert sorted(other for other in foreign if room(other, "mace_core") not in (*PUBLIC, "mace_core")) == []


def test_the_architecture_page_shows_these_layers() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = page.partition("| `mace_core.` | contents |")[2].partition("\n\n")[0]
    shown = [set(re.findall(r"`(\w+)`", row.split("|")[1])) for row in table.strip().splitlines()[1:]]
    assert shown == [set(names) for names in reversed(LAYERS)]


def test_the_core_imports_no_plugin(core: Graph) -> None:
    plugins = import_graph(*(folder for folder in PLUGINS.values()), ROOT / "mace_core")
    assert {o for module in core for o in plugins[module]} <= set(core)


def test_a_circle_and_an_upward_import_are_found(tmp_path: Path) -> None:
    package = tmp_path / "toy"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "low.py").write_text("def late():\n    from toy import high\n    return high\n")
    (package / "high.py").write_text("from toy import low\n")
    (package / "typed.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from toy import typed2\n"
    )
    (package / "typed2.py").write_text("import toy.typed\n")
    graph = import_graph(package)
    assert circles(graph) == [["toy.high", "toy.low"]]
    rooms = {module: room(module, "toy") for module in graph}
    assert upward(
        folded({m: i for m, i in graph.items() if m != "toy"}, rooms), [("low", "typed"), ("high", "typed2")]
    ) == ["low -> high"]
