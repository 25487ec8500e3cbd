"""Libraries of the models of a deployment, for the ABIs that it names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mace_core.errors import MaceError, UsageError
from mace_core.progress import report

TARGETS: Mapping[str, str] = {
    "host": "host",
    "armeabi-v7a": "armeabi-v7a",
    "armhf": "armeabi-v7a",
    "arm64-v8a": "arm64-v8a",
    "arm64": "arm64-v8a",
    "riscv64": "riscv64",
    "x86-64": "x86-64",
    "x86-64-v3": "x86-64-v3",
    "x86-64-v4": "x86-64-v4",
}
"""By the name of an ABI, what it is built for."""

_ANDROID = ("armeabi-v7a", "arm64-v8a")
"""Names that Android has for processors; those of Linux systems are armhf and arm64."""


@dataclass(frozen=True, slots=True)
class BuiltLibrary:
    """What was built for one ABI.

    Attributes:
        abi: its name.
        target: what it is built for.
        files: size of each, by its path within the folder of the conversion.
        code_bytes, weight_bytes: of what is in it, or in the file of weights beside it.
        failure: why there is none; "" where there is.
    """

    abi: str
    target: str
    files: Mapping[str, int] = field(default_factory=dict)
    code_bytes: int = 0
    weight_bytes: int = 0
    failure: str = ""


def build_libraries(
    folder: Path, packages: Mapping[str, Path], abis: Sequence[str], name: str, *, optimize: bool, weights: str
) -> list[BuiltLibrary]:
    """Build a library of all models for each ABI.

    Args:
        folder: where ``include`` and ``lib`` are made.
        packages: files within it, by the names of their models.
        abis: what to build for.
        name: of the library.
        weights: where they are, as `build_library` takes it.

    Returns:
        One for each ABI; where none could be built, with the reason.

    Raises:
        UsageError: if two models have one name in C.
    """
    from mace_core.ahead_of_time import build_library

    symbol = re.sub(r"\W", "_", name, flags=re.ASCII)
    symbol = f"_{symbol}" if symbol[0].isdigit() else symbol
    models: dict[str, str] = {}
    for stem, path in packages.items():
        prefix = re.sub(r"\W", "_", stem, flags=re.ASCII)
        if prefix in models:
            raise UsageError(f"two graphs of the library would be called '{prefix}' in C: rename one of them")
        models[prefix] = str(folder / path)
    done: list[BuiltLibrary] = []
    for number, abi in enumerate(abis):
        report("building libraries", number, len(abis))
        target = TARGETS[abi]
        if any(each.target == target for each in done):  # arm64 beside arm64-v8a: the library is the same
            continue
        serves_android = abi in _ANDROID and all(TARGETS[each] != target for each in abis if each not in _ANDROID)
        try:
            made = build_library(
                models,
                folder,
                target=target,
                name=symbol,
                optimize=optimize,
                weights=weights,
                for_android=serves_android,
            )
        except MaceError as error:
            done.append(BuiltLibrary(abi, target, failure=str(error).replace(f"{folder}/", "")))
            continue
        files = {str(path.relative_to(folder)): path.stat().st_size for path in made.files}
        done.append(BuiltLibrary(abi, target, files, made.code_bytes, made.weight_bytes))
    report("building libraries", len(abis), max(len(abis), 1))
    return done
