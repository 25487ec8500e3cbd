"""What the command line says beside a deployment file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Request:
    """How a deployment file, or a model, is to be converted.

    Attributes:
        output: the folder in which a folder of the library's name is made.
        target_abis, target_socs: in place of the file's; empty for the file's.
        quantize: one of `mace_core.deployment.precision.WORDS`; None for what the file says.
        algorithm: that finds ranges.
        optimize: simplify the graph.
        validate: compare results.
        graph_format, data_format: in place of the file's.
        calibration: samples to find ranges on, in place of the file's: a folder, an ``.npz`` file or MODULE:FUNCTION.
        libraries: build libraries for the ABIs.
        gather_ranges: write the ranges of tensors to a file, in MACE's form, and quantize nothing.
        sign_with: files of private Ed25519 keys, each of which signs the packages.
        draw: writes a page that shows a package, given the package and where the page is to be.
        samples: so many runs with known results go into each package; None: one, if it takes little memory.
    """

    output: Path = Path("build")
    target_abis: tuple[str, ...] = ()
    target_socs: tuple[str, ...] = ()
    quantize: str | None = None
    algorithm: str = "minmax"
    optimize: bool = True
    validate: bool = True
    graph_format: str = ""
    data_format: str = ""
    calibration: str = ""
    libraries: bool = True
    gather_ranges: bool = False
    sign_with: tuple[Path, ...] = ()
    draw: Callable[[Path, Path], None] | None = None
    samples: int | None = None
