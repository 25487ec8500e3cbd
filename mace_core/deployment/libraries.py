"""Libraries of the models of a deployment, for the ABIs that it names."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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


@dataclass(frozen=True, slots=True)
class Library:
    """What was built for one ABI.

    Attributes:
        abi: its name.
        files: size of each, by its path within the folder of the conversion.
    """

    abi: str
    files: Mapping[Path, int]


def why_not(abis: Sequence[str]) -> str:
    """Why no libraries are built; "" where they are."""
    if importlib.util.find_spec("mace_core.ahead_of_time") is None:
        return f"libraries for {', '.join(abis)} are not built by this version: the packages run there with Python"
    return ""
