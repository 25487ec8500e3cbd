"""Sizes that a backend would rather compile for than for each one that comes."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Buckets:
    """The sizes that an axis is padded to.  New in api 1.2.

    Attributes:
        sizes: ascending positive numbers; a larger size is compiled for as it is.
        most_padding: the largest share of the padded size that may be padding, in [0, 1); a size for which the bucket
            would have more is compiled for as it is.
        most_compiled: how many compiled subgraphs of the same nodes are kept for later shapes; those used least
            recently are closed first.
    """

    sizes: tuple[int, ...]
    most_padding: float = 0.75
    most_compiled: int = 16

    def __post_init__(self) -> None:
        """
        Raises:
            ValueError: for sizes, a share or a number that cannot be.
        """
        object.__setattr__(self, "sizes", tuple(self.sizes))
        if not _is_ascending(self.sizes):
            raise ValueError(f"bucket sizes must be ascending positive whole numbers, not {self.sizes}")
        if not 0 <= self.most_padding < 1:
            raise ValueError(f"the share of padding must be at least 0 and below 1, not {self.most_padding}")
        if self.most_compiled < 1:
            raise ValueError(f"at least one compiled subgraph must be kept, not {self.most_compiled}")

    @classmethod
    def powers_of_two(cls, largest: int, *, most_padding: float = 0.75, most_compiled: int = 16) -> Buckets:
        """1, 2, 4, …, not beyond ``largest``."""
        sizes = tuple(1 << power for power in range(largest.bit_length()))
        return cls(sizes, most_padding, most_compiled)

    def bucket(self, size: int) -> int | None:
        """The size to compile for in the place of ``size``; None where there is none."""
        if size < 1 or size > self.sizes[-1]:
            return None
        found = self.sizes[bisect_left(self.sizes, size)]
        return found if found - size <= self.most_padding * found else None


def _is_ascending(sizes: Sequence[int]) -> bool:
    whole = all(isinstance(size, int) and not isinstance(size, bool) for size in sizes)
    return bool(sizes) and whole and sizes[0] > 0 and all(a < b for a, b in pairwise(sizes))
