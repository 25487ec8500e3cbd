"""Opening sessions from command-line options."""

from __future__ import annotations

from collections.abc import Sequence

from mace_core.cli import output
from mace_core.cli.options import parse_pins, parse_provider_options
from mace_core.session import Session


def open_session(
    model: str,
    *,
    devices: Sequence[str] = (),
    strict: bool = False,
    pins: Sequence[str] = (),
    threads: int = 0,
    provider_options: Sequence[str] = (),
) -> Session:
    """A session on ``devices`` (all real ones where none is named); ``threads`` goes to the cpu provider, 0 leaves it.

    Raises:
        MaceError: as Session does.
    """
    with output.progress(f"Loading {model}"):
        return Session(
            model,
            devices=list(devices) or None,
            options=parse_provider_options(list(provider_options), threads) or None,
            strict=strict,
            pins=parse_pins(list(pins)),
        )
