"""Kernels written in Python, compiled with numba.  Describing one imports neither numba nor the module it lies in."""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib
import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

from mace_core.native.errors import KernelError
from mace_core.native.kernel_words import WordLayout
from mace_core.native.source import KernelSource
from mace_core.native.target import Target

_PRELUDE = "mace_core.native.numba_prelude"
_COMPILER = "mace_core.native.numba_compile"


def numba_source(module: str, function: str, /, **specialization: str) -> KernelSource:
    """A kernel that ``function(**specialization)`` of ``module`` returns as a plain Python function.

    The factory returns ``kernel(args, begin, end, chunk)`` in numba's nopython subset; ``args[i]`` is word i as int64,
    pointers come from `mace_core.native.numba_prelude`.  A factory may set ``kernel.__fastmath__`` to True or to a set
    of LLVM's fast-math flags.  If the kernel uses functions of other modules, its module lists them in a literal
    ``KERNEL_DEPENDENCIES = ("package.module", …)``, so that a change there rebuilds it.

    Its argument words have the names that the module gives in a literal ``WORDS = {"function": "source target …"}``,
    see `mace_core.native.kernel_words`; a count may be what the kernel is specialized for: ``operands[{operands}]``.
    """
    build = functools.partial(_build, module, function, tuple(sorted(specialization.items())))
    symbol, words = kernel_symbol(module, function, specialization), _layout(module, function, specialization)
    return KernelSource(symbol, kernel_version(module), build, words=words)


def _layout(module: str, function: str, specialization: dict[str, str]) -> WordLayout | None:
    text = _words(module).get(function)
    return None if text is None else WordLayout.parse(text.format(**specialization))


@functools.cache
def _words(module: str) -> dict[str, str]:
    """``WORDS`` of a kernel module, read without importing it."""
    content = _source(module)
    if b"WORDS" not in content:
        return {}
    found = _literal(module, content, "WORDS")
    return {} if found is None else dict(found)


def kernel_symbol(module: str, function: str, specialization: dict[str, str]) -> str:
    """A readable name that is different for different kernels."""
    parts = [module.rpartition(".")[2], function, *(f"{k}_{v}" for k, v in sorted(specialization.items()))]
    exact = repr((module, function, sorted(specialization.items())))
    return re.sub(r"\W", "_", "_".join(parts))[:80] + "_" + hashlib.sha256(exact.encode()).hexdigest()[:10]


@functools.cache
def kernel_version(module: str) -> str:
    """A hash of everything that the code of a kernel in ``module`` depends on."""
    digest = hashlib.sha256()
    digest.update(f"numba {_numba_version()} python {sys.version_info[:2]}".encode())
    todo, seen = [module, _PRELUDE, _COMPILER], set()
    while todo:
        name = todo.pop(0)
        if name in seen:
            continue
        seen.add(name)
        content = _source(name)
        digest.update(name.encode() + b"\0" + content + b"\0")
        if b"KERNEL_DEPENDENCIES" in content:
            todo += _dependencies(name, content)
    return digest.hexdigest()[:32]


@functools.cache
def _numba_version() -> str:
    """What tells versions of numba apart: the folder name of its metadata, which takes less to find than to read."""
    spec = importlib.util.find_spec("numba")
    if spec is None or spec.origin is None:
        return "absent"
    installed = Path(spec.origin).parent.parent
    found = sorted(folder.name for folder in installed.glob("numba-*.dist-info"))
    if found:
        return " ".join(found)
    from importlib.metadata import version

    return version("numba")


def _source(module: str) -> bytes:
    loaded = sys.modules.get(module)
    spec = loaded.__spec__ if loaded is not None else importlib.util.find_spec(module)
    if spec is None or spec.origin is None or not spec.has_location:
        raise KernelError(f"the kernel module '{module}' is not a source file, so its kernels cannot be compiled")
    return Path(spec.origin).read_bytes()


def _dependencies(module: str, content: bytes) -> list[str]:
    return [str(name) for name in _literal(module, content, "KERNEL_DEPENDENCIES") or ()]


def _literal(module: str, content: bytes, wanted: str) -> Any:
    """The value of a constant of a module; None where it has none of that name."""
    for statement in ast.parse(content).body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if name == wanted:
                break
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value) if name == wanted:
                break
    else:
        return None
    try:
        return ast.literal_eval(value)
    except ValueError as error:
        raise KernelError(f"{wanted} of {module} is not a literal") from error


def _build(module: str, function: str, specialization: tuple[tuple[str, str], ...], target: Target) -> str:
    return translated(module, function, specialization)


def translated(module: str, function: str, specialization: tuple[tuple[str, str], ...]) -> str:
    """The LLVM IR of a kernel: the same for every target, and most of the time that building one takes."""
    from mace_core.native.numba_compile import numba_ir

    symbol = kernel_symbol(module, function, dict(specialization))
    factory = getattr(importlib.import_module(module), function, None)
    if factory is None:
        raise KernelError(f"the kernel module '{module}' has no function '{function}'")
    words = _layout(module, function, dict(specialization))
    if words is not None:
        _check_words(module, function, words)
    return numba_ir(factory(**dict(specialization)), symbol)


def _check_words(module: str, function: str, words: WordLayout) -> None:
    """See that a kernel reads no word that its layout does not have, as far as it reads them by number.

    Raises:
        KernelError: if it does.
    """
    factory = next(
        (s for s in ast.parse(_source(module)).body if isinstance(s, ast.FunctionDef) and s.name == function), None
    )
    for part in ast.walk(factory) if factory is not None else ():
        match part:
            case ast.Subscript(value=ast.Name(id="args"), slice=ast.Constant(value=int(index))):
                beyond = index >= words.fixed and words.is_fixed
            case ast.Subscript(value=ast.Name(id="args"), slice=ast.BinOp(left=ast.Constant(value=int(index)))):
                beyond = words.is_fixed and index >= words.fixed
            case _:
                continue
        if beyond:
            raise KernelError(f"the kernel '{function}' of {module} reads word {index}, and has {words.fixed}")
