"""What may be chosen where a model file is read: which of its graphs, and how products of mixed types are computed.

A caller's arguments come first, then the environment variables ``MACE_SIGNATURE`` and ``MACE_DYNAMIC_RANGE``: the
command line sets them, for all that one command reads and for the processes that it starts.  Beside its model that may
be a package that it made of it, or steps before it: what has no such choice is read as ever then.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mace_core.errors import UsageError

SIGNATURE, DYNAMIC_RANGE = "MACE_SIGNATURE", "MACE_DYNAMIC_RANGE"
DYNAMIC_RANGES = ("integer", "float")


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """How a model file is read.

    Attributes:
        signature: which of its graphs; None: the usual one.
        dynamic_range: of TensorFlow Lite's products of floats with weights in integers: ``integer``: floats are stored
            in 8 bits in each run, as LiteRT does; ``float``: they stay as they are.
        is_for_all: whether the signature is for whatever is read that has signatures, not for one model.
    """

    signature: str | None = None
    dynamic_range: str = "integer"
    is_for_all: bool = False

    @classmethod
    def of(cls, signature: str | None = None, dynamic_range: str | None = None) -> ImportOptions:
        """Options as given, else as the environment says.

        Raises:
            UsageError: if ``dynamic_range`` is neither of the two.
        """
        chosen = dynamic_range or os.environ.get(DYNAMIC_RANGE) or "integer"
        if chosen not in DYNAMIC_RANGES:
            raise UsageError(f"dynamic_range is '{chosen}'; it is one of {', '.join(DYNAMIC_RANGES)}")
        return cls(signature or os.environ.get(SIGNATURE) or None, chosen, is_for_all=not signature)


@contextlib.contextmanager
def importing(signature: str, dynamic_range: str) -> Iterator[None]:
    """Let all models that are read meanwhile be read so; "" for what is left as it is."""
    with _set({SIGNATURE: signature, DYNAMIC_RANGE: dynamic_range}):
        ImportOptions.of()
        yield


@contextlib.contextmanager
def _set(variables: Mapping[str, str]) -> Iterator[None]:
    given = {name: value for name, value in variables.items() if value}
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
