"""What users may set for a device: names, words and checks."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mace_core.errors import UsageError
from mace_hexagon import discovery
from mace_hexagon.op_packages import OpPackage, read_packages

PRECISIONS = ("fp16", "float32")
PERFORMANCE = ("latency", "low_power", "sustained", "boost")
"""The words that the provider ``apu`` has for the same."""

OPTIMIZATION_LEVELS = (1, 2, 3)
PROFILING = ("detailed", "basic")
AUTO, OFF = "auto", "off"
DEFAULT_CONTEXT_MB = 3072
"""The HTP addresses 32 bits; a context's program, tensors and buffers need room next to the weights."""

DESCRIPTIONS: Mapping[str, str] = {
    "precision": "how float32 is computed: fp16 (default), or float32 where the HTP can (the emulation can)",
    "library_dir": "folder of libQnnHtp.so, instead of the one found by itself",
    "largest_bucket": "sizes up to this are padded to powers of two (default 0: each is compiled for as it is)",
    "performance": "what to be good at: latency (default: one answer soon), low_power, sustained (many answers) "
    "or boost (the highest clock)",
    "optimization_level": "how long QNN optimizes a graph: 1 (shortest), 2 or 3 (default: QNN's own choice)",
    "vtcm_mb": "megabytes of the HTP's tightly coupled memory a graph may use (default 0: all)",
    "context_mb": "megabytes of weights that one QNN context may hold; more are spread over several (default 3072)",
    "profiling": "what profiled runs tell: detailed (default: every operation) or basic",
    "shared_memory": "auto (default): inputs and outputs lie in memory that the HTP reads, if libcdsprpc.so is here; "
    "off; or the path of that library",
    "op_packages": "shared objects with operators of one's own for QNN, as PATH[:PROVIDER[:TARGET]]",
    "hvx_threads": "vector threads a graph uses (default 0: QNN's own choice)",
}


@dataclass(frozen=True, slots=True)
class Options:
    """The options of one device, checked.

    Attributes:
        library: the library to use; None for the one found.
        shared_memory: "auto", "off" or a path.
        optimization, vtcm_mb, hvx_threads: 0 for QNN's own choice.
        others: see `DESCRIPTIONS`.
    """

    precision: str
    library: Path | None
    largest_bucket: int
    performance: str
    optimization: int
    vtcm_mb: int
    hvx_threads: int
    context_mb: int
    profiling: str
    shared_memory: str
    op_packages: tuple[OpPackage, ...]


def read(options: Mapping[str, object]) -> Options:
    """Check what the user gave.

    Raises:
        UsageError: for an unknown option or a value that does not fit.
    """
    unknown = sorted(set(options) - set(DESCRIPTIONS))
    if unknown:
        raise UsageError(f"the hexagon provider has no option '{unknown[0]}'; it knows {', '.join(DESCRIPTIONS)}")
    optimization = _number(options, "optimization_level", "1, 2 or 3, or 0 for QNN's own choice")
    if optimization and optimization not in OPTIMIZATION_LEVELS:
        raise UsageError(
            f"the hexagon option 'optimization_level' takes 1, 2 or 3, or 0 for QNN's own choice, not {optimization}"
        )
    return Options(
        precision=_choice(options, "precision", PRECISIONS),
        library=_library(options.get("library_dir")),
        largest_bucket=_number(options, "largest_bucket", "a size, or 0 for no buckets"),
        performance=_choice(options, "performance", PERFORMANCE),
        optimization=optimization,
        vtcm_mb=_number(options, "vtcm_mb", "a number of megabytes, or 0 for all"),
        hvx_threads=_number(options, "hvx_threads", "a number of threads, or 0 for QNN's own choice"),
        context_mb=_number(options, "context_mb", "a number of megabytes from 1 on", DEFAULT_CONTEXT_MB, least=1),
        profiling=_choice(options, "profiling", PROFILING),
        shared_memory=_shared_memory(options.get("shared_memory", AUTO)),
        op_packages=read_packages(options.get("op_packages", ())),
    )


def _choice(options: Mapping[str, object], name: str, values: tuple[str, ...]) -> str:
    given = options.get(name, values[0])
    if not isinstance(given, str) or given not in values:
        raise UsageError(f"the hexagon option '{name}' is one of {', '.join(values)}, not {given!r}")
    return given


def _shared_memory(given: object) -> str:
    if not isinstance(given, str | os.PathLike) or "\0" in (path := os.fspath(given)) or isinstance(path, bytes):
        raise UsageError(f"the hexagon option 'shared_memory' takes auto, off or a path, not {given!r}")
    return path


def _number(options: Mapping[str, object], name: str, what: str, default: int = 0, *, least: int = 0) -> int:
    given = options.get(name, default)
    if isinstance(given, bool) or not isinstance(given, int) or not least <= given < 1 << 31:
        raise UsageError(f"the hexagon option '{name}' takes {what}, not {given!r}")
    return given


def _library(folder: object) -> Path | None:
    if folder is None:
        return None
    if not isinstance(folder, str | os.PathLike) or "\0" in os.fspath(folder):
        raise UsageError(f"the hexagon option 'library_dir' takes a folder, not {folder!r}")
    library = Path(folder, discovery.HTP_LIBRARY)
    problem = discovery.why_unusable(library)
    if problem is not None:
        raise UsageError(f"the hexagon option 'library_dir' does not fit: {problem}")
    return library
