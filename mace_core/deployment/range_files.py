"""Files of ranges as MACE has them: ``TENSOR@@LOW,HIGH``, a line for each tensor."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from mace_core.deployment.yaml_tree import ConfigError
from mace_core.errors import MaceError, shorten
from mace_core.host.files import replacing

LARGEST_BYTES = 64 << 20
_LOG = "Tensor range "
"""Before each line in the log of a run that gathers ranges; each sample has its lines there."""

Ranges = dict[str, tuple[float, float]]


def read_ranges(path: Path) -> Ranges:
    """The range of each tensor, by its name; of several lines for one, what covers all of them.

    A log of MACE's ``--quantize_stat`` is taken too: lines that are no ranges are passed over there.

    Raises:
        ConfigError: if it cannot be read, or a line is no range.
    """
    try:
        if not path.is_file():
            raise ConfigError(f"'{path}' is {'a folder' if path.is_dir() else 'no regular file'}")
        if path.stat().st_size > LARGEST_BYTES:
            raise ConfigError(f"'{path}' has more than {LARGEST_BYTES >> 20} MiB; it is no file of ranges")
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise ConfigError(f"'{path}' is no text in UTF-8: it is no file of ranges") from None
    except OSError as error:
        raise ConfigError(f"'{path}' cannot be read: {error.strerror or error}") from None
    is_log = any(f"{_LOG}@@" in line for line in lines)
    found: Ranges = {}
    for number, line in enumerate(lines, 1):
        if is_log:
            _, mark, line = line.partition(f"{_LOG}@@")
            if not mark:
                continue
        if not line.strip():
            continue
        name, low, high = _range(line, f"{path}, line {number}")
        before = found.get(name, (low, high))
        found[name] = (min(low, before[0]), max(high, before[1]))
    if not found:
        raise ConfigError(f"'{path}' has no range: a line is TENSOR@@LOW,HIGH")
    return found


def _range(line: str, place: str) -> tuple[str, float, float]:
    name, mark, text = line.partition("@@")
    ends = text.strip().split(",")
    try:
        low, high = map(float, ends)
    except ValueError:
        mark = ""
        low = high = math.nan
    if not mark or not name.strip():
        raise ConfigError(f"{place}: '{shorten(line, 60)}' is no range: write TENSOR@@LOW,HIGH")
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ConfigError(f"{place}: '{shorten(name, 60)}' has the range {text.strip()[:40]}, which is none")
    return name.strip(), low, high


def write_ranges(path: Path, ranges: Mapping[str, tuple[float, float]]) -> None:
    """
    Raises:
        MaceError: if the file cannot be written.
    """
    text = "".join(f"{name}@@{low!r},{high!r}\n" for name, (low, high) in ranges.items())
    try:
        with replacing(path) as file:
            file.write(text.encode())
    except OSError as error:
        raise MaceError(f"'{path}' cannot be written: {error.strerror or error}") from None


def spelled(ranges: Mapping[str, tuple[float, float]]) -> Ranges:
    """The ranges under each spelling of a tensor's name: TensorFlow's ``:0`` may be there or not."""
    found = {f"{name}:0": limits for name, limits in ranges.items()}
    found |= {name.removesuffix(":0"): limits for name, limits in ranges.items()}
    return found | dict(ranges)
