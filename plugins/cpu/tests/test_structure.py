"""Who imports whom inside the CPU provider; docs in plugins/cpu/README.md."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import mace_cpu
import pytest
from mace_cpu.shared.checks import all_concrete
from mace_cpu.shared.codegen.version import NOT_GENERATING, SHARED
from mace_cpu.shared.registry import LOWERINGS, REGISTERING, lowers

from mace_core.errors import UsageError

ROOT = Path(mace_cpu.__file__).parent

PLAN = ("version", "plan")
"""What a run needs, all that a warm start imports besides the backend; it imports nothing else of the package."""

ABOVE = ("", "backend", "provider", "workers", "memory_checks")
"""What may import everything."""

LAYERS = (
    ("shared.precision", "shared.quads", "shared.checks", "shared.nodes"),
    ("shared.codegen",),
    ("shared.epilogue", "shared.kernels"),
    ("shared.tiles",),
    ("shared.parts",),
    ("shared.layouts",),
    ("shared.program",),
    ("shared.pixels", "shared.registry"),
)
"""Shared machinery, lowest first: each layer imports those before it, and itself."""

EXCEPTIONS = {
    ("attention", "matmul"): "an attention is two products: it packs their operands as a product does",
    ("recurrent", "matmul"): "the inputs of all steps are multiplied by one product before the recurrence",
    ("recurrent", "quantized"): "and that product is one of bytes where the weights have 8 bits",
    ("quantized", "matmul"): "products of whole numbers are computed exactly by products of floats",
    ("quantized", "conv"): "convolutions of whole numbers are computed exactly by convolutions of floats",
    ("quantized", "elementwise"): "sums and products of quantized numbers are elementwise expressions",
    ("quantized", "pooling"): "windows are the same over quantized numbers",
    ("quantized", "resize"): "where the samples of quantized numbers come from is the same",
    ("normalization", "elementwise"): "a BatchNormalization with constants is part of a chain of elementwise nodes",
    ("pooling", "reduction"): "a global pooling is a reduction over the spatial axes",
}
"""Families that build on another one, and why."""

Imports = dict[str, dict[str, str]]


def read(files: Mapping[str, str]) -> Imports:
    """For each module whose source is given, the modules among them that it imports, wherever in the file, and as what:
    "runtime" or "typing".

    The name of a module in a string counts, too: that is how generators and kernels are named.
    """
    found: Imports = {}
    for module, text in files.items():
        edges = found.setdefault(module, {})
        for name, how in _names(text):
            target = _known(name, files)
            if target is not None and target != module and edges.get(target) != "runtime":
                edges[target] = how
    return found


@functools.cache
def _names(text: str) -> tuple[tuple[str, str], ...]:
    """What a source may mean by its imports and strings, and as what."""
    tree = ast.parse(text)
    guarded = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    return tuple(
        (name, "typing" if id(node) in guarded else "runtime") for node in ast.walk(tree) for name in _named(node)
    )


def _named(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.ImportFrom(module=str(module), names=names, level=0):
            yield from (f"{module}.{alias.name}" for alias in names)
        case ast.Import(names=names):
            yield from (alias.name for alias in names)
        case ast.Constant(value=str(text)) if re.fullmatch(r"mace_cpu(\.\w+)+", text):
            yield text


def _known(name: str, files: Mapping[str, str]) -> str | None:
    while name and name not in files:
        name = name.rpartition(".")[0]
    return name or None


def circles(imports: Mapping[str, Mapping[str, str]]) -> list[list[str]]:
    """Modules that import each other, however indirectly: what is left when those that import nothing left are gone."""
    left = {module: set(targets) for module, targets in imports.items()}
    while True:
        free = {module for module, targets in left.items() if not targets & left.keys()}
        read_by_none = left.keys() - {target for targets in left.values() for target in targets}
        gone = free | read_by_none
        if not gone:
            return [sorted(left)] if left else []
        left = {module: targets for module, targets in left.items() if module not in gone}


def part(module: str) -> str:
    """The part of the package that a module belongs to: a family, or a layer of what is shared."""
    names = module.split(".")[1:]
    return ".".join(names[:2]) if names[:1] == ["shared"] else ".".join(names[:1])


def upward(imports: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Imports against the direction, as sentences."""
    level = {name: index for index, layer in enumerate(LAYERS) for name in layer}
    wrong = []
    for module, targets in imports.items():
        here = part(module)
        for target in targets:
            there = part(target)
            if here == there or here in ABOVE or there in PLAN or there == "shared":
                continue
            if here in level and there in level and level[there] <= level[here]:
                continue
            is_family = here not in level and here not in PLAN and here != "shared"
            if is_family and (there in level or (here, there) in EXCEPTIONS):
                continue
            wrong.append(f"{module} imports {target}")
    return sorted(wrong)


def generating(module: str) -> bool:
    return module.rpartition(".")[2].startswith("generate")


def unseen_by_versions(imports: Mapping[str, Mapping[str, str]]) -> list[str]:
    """What generators import, however indirectly, without `generator_version` looking at it."""
    wrong = []
    for start in filter(generating, imports):
        todo, seen = [start], set()
        while todo:
            module = todo.pop()
            for target, how in imports[module].items():
                if how != "runtime" or target in seen or target.count(".") < 2:
                    continue
                seen.add(target)
                path = target.partition(".")[2].replace(".", "/")
                own = part(target) == part(start) or any(
                    f"{path}.py/".startswith((f"{s}/", f"{s}.py/")) for s in SHARED
                )
                own = own or f"{path}.py" in SHARED
                if not own or target.rpartition(".")[2].startswith(NOT_GENERATING):
                    wrong.append(f"{start} needs {target}")
                else:
                    todo.append(target)
    return sorted(set(wrong))


def sources() -> dict[str, str]:
    found = {}
    for file in ROOT.rglob("*.py"):
        names = ["mace_cpu", *file.relative_to(ROOT).with_suffix("").parts]
        found[".".join(names[:-1] if names[-1] == "__init__" else names)] = file.read_text("utf-8")
    return found


@pytest.fixture(scope="module")
def imports() -> Imports:
    return read(sources())


def test_imports_go_one_way(imports: Imports) -> None:
    assert upward(imports) == []
    assert circles(imports) == []


def test_every_exception_is_needed(imports: Imports) -> None:
    used = {(part(module), part(target)) for module, targets in imports.items() for target in targets}
    assert set(EXCEPTIONS) <= used


def test_imports_inside_functions_are_those_that_keep_a_start_warm(imports: Imports) -> None:
    inside = set()
    for module, text in sources().items():
        for function in ast.walk(ast.parse(text)):
            if isinstance(function, ast.FunctionDef):
                named = (
                    name for node in ast.walk(function) if isinstance(node, ast.ImportFrom) for name in _named(node)
                )
                inside |= {module for name in named if _known(name, imports) is not None}
    assert inside == {"mace_cpu.backend", "mace_cpu.provider"}


def test_versions_of_generated_code_cover_what_generators_import(imports: Imports) -> None:
    assert unseen_by_versions(imports) == []


def test_a_circle_inside_a_function_is_found() -> None:
    text = {
        "mace_cpu.a.lower": "def f():\n    from mace_cpu.b.lower import g\n",
        "mace_cpu.b.lower": "import mace_cpu.a.lower",
    }
    assert circles(read(text)) == [["mace_cpu.a.lower", "mace_cpu.b.lower"]]


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("mace_cpu.shared.tiles.tile", "from mace_cpu.conv.lower import conv"),
        ("mace_cpu.shared.codegen.body", "def f():\n    from mace_cpu.shared.program.program import Program"),
        ("mace_cpu.resize.lower", 'KERNELS = "mace_cpu.conv.kernels"'),
        ("mace_cpu.matmul.lower", "from mace_cpu.attention.lower import emit_attention"),
        ("mace_cpu.plan.stored", "from mace_cpu.shared.registry import lowers"),
    ],
)
def test_an_import_against_the_direction_is_found(module: str, text: str) -> None:
    every = {**sources(), module: text}
    every.setdefault("mace_cpu.conv.kernels", "")
    assert [each for each in upward(read(every)) if each.startswith(f"{module} ")] != []


def test_a_generator_that_needs_a_lowering_is_found() -> None:
    every = {**sources(), "mace_cpu.conv.direct.generate": "from mace_cpu.conv.direct.lower import emit_direct"}
    assert unseen_by_versions(read(every)) == ["mace_cpu.conv.direct.generate needs mace_cpu.conv.direct.lower"]


def test_registration_walks_the_package() -> None:
    """Whatever module registers something has a name that the walk imports."""
    decorator = re.compile(r"^@(lowers|elementwise|joins|begins|instead|before_lowering|after_lowering)\b", re.M)
    registering = {module for module, text in sources().items() if decorator.search(text)}
    assert len(registering) > 20
    assert all(module.rpartition(".")[2].startswith(REGISTERING) for module in registering)


def test_a_second_lowering_of_an_operator_is_refused() -> None:
    assert LOWERINGS.find("", "Relu") is not None
    with pytest.raises(UsageError, match=r"the cpu provider has two lowerings of ai\.onnx\.Relu"):
        lowers("Relu", check=all_concrete)(lambda program, node: None)
