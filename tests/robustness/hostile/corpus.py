"""All hostile files, in order."""

from __future__ import annotations

from collections.abc import Iterator

from hostile.case import Case
from hostile.damage import damaged
from hostile.sizes import size_cases
from hostile.structures import structure_cases
from hostile.tensors import tensor_cases


def corpus(seed: int, bytewise: int, fieldwise: int) -> Iterator[Case]:
    """Those written by hand, then those made at random."""
    yield from tensor_cases()
    yield from structure_cases()
    yield from size_cases()
    yield from damaged(seed, bytewise, fieldwise)
