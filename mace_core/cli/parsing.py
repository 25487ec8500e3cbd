"""Texts of options as values."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from mace_core.errors import UsageError


def parse_pins(texts: Sequence[str]) -> dict[str, str]:
    """``NODE=DEVICE`` by node; the node's name may itself hold a ``=``.

    Raises:
        UsageError: for a text of another form.
    """
    pins: dict[str, str] = {}
    for text in texts:
        node, equals, device = text.rpartition("=")
        if not equals or not node or not device:
            raise UsageError(f"--pin {text}: write it NODE=DEVICE")
        pins[node] = device
    return pins


def parse_provider_options(texts: Sequence[str], threads: int = 0) -> dict[str, dict[str, object]] | None:
    """``PROVIDER.NAME=VALUE`` by provider (or device) and name; whole numbers, true and false are taken as such.

    Args:
        threads: of the cpu provider, from an option of their own; 0: not given.

    Raises:
        UsageError: for a text of another form.
    """
    found: dict[str, dict[str, object]] = {"cpu": {"threads": threads}} if threads else {}
    for text in texts:
        where, equals, value = text.partition("=")
        provider, dot, name = where.rpartition(".")
        if not (provider and dot and name and equals and value):
            raise UsageError(f"--option {text}: write it PROVIDER.NAME=VALUE, like cpu.affinity=big")
        found.setdefault(provider, {})[name] = _value(value)
    return found or None


def _value(text: str) -> object:
    if re.fullmatch(r"-?[0-9]{1,19}", text):
        return int(text)
    return {"true": True, "false": False}.get(text.lower(), text)


def parse_numbers(option: str, text: str) -> tuple[float, ...] | None:
    """``0.5`` or ``0.485,0.456,0.406``; None for "".

    Raises:
        UsageError: if it is something else.
    """
    if not text:
        return None
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = (math.nan,)
    if not all(map(math.isfinite, numbers)):
        raise UsageError(f"{option} {text}: write one number, or one per channel with commas between")
    return numbers


def parse_size(text: str) -> tuple[int, int] | None:
    """``640x480`` (width x height); None for "".

    Raises:
        UsageError: if it is something else.
    """
    if not text:
        return None
    found = re.fullmatch(r"([1-9][0-9]{0,5})x([1-9][0-9]{0,5})", text)
    if found is None:
        raise UsageError(f"--resize {text}: write it WIDTHxHEIGHT, like 640x480")
    return int(found[1]), int(found[2])
