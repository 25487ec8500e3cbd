"""Names for the argument words of a kernel, so that nobody gives them by position.

A layout is written as a text: ``"source target rank sizes[rank] strides[rank]"`` are three words and then twice as many
as the third one says.  Counts may be numbers, names of earlier words, and products of these: ``pads[2*rank]``.
"""

from __future__ import annotations

import enum
import functools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mace_core.native.errors import KernelError

_ENTRY = re.compile(r"([a-z][a-z0-9_]*)(?:\[([a-z0-9_*]+)\])?")


@dataclass(frozen=True, slots=True)
class Run:
    """A word, or several that have one name.

    Attributes:
        name: what the words are called.
        factors: of the number of words: numbers, and names of words before; None: it is one word, not a list of one.
    """

    name: str
    factors: tuple[int | str, ...] | None = None


@dataclass(frozen=True, slots=True)
class WordLayout:
    """The argument words of a kernel in their order."""

    runs: tuple[Run, ...]

    @staticmethod
    @functools.cache
    def parse(text: str) -> WordLayout:
        """The layout that ``text`` describes, see the module.

        Raises:
            KernelError: if it describes none.
        """
        runs: list[Run] = []
        single: set[str] = set()
        for entry in text.split():
            match = _ENTRY.fullmatch(entry)
            if match is None or any(run.name == match[1] for run in runs):
                raise KernelError(f"'{entry}' in '{text}' names no argument word of a kernel")
            if match[2] is None:
                runs.append(Run(match[1]))
                single.add(match[1])
                continue
            factors = tuple(int(factor) if factor.isdigit() else factor for factor in match[2].split("*"))
            unknown = [factor for factor in factors if isinstance(factor, str) and factor not in single]
            if unknown:
                raise KernelError(
                    f"'{entry}' in '{text}' counts by '{unknown[0]}', which is not a single word before it"
                )
            runs.append(Run(match[1], factors))
        return WordLayout(tuple(runs))

    @staticmethod
    def of(words: type[enum.IntEnum], /, **lists: int | str) -> WordLayout:
        """The layout of a kernel whose words are the members of an enumeration from 0 on, named in lower case.

        Args:
            words: the enumeration.
            lists: what follows its members: how many words there are of each name, or which member tells.
        """
        members = list(words)
        if [member.value for member in members] != list(range(len(members))):
            raise KernelError(f"{words.__qualname__} does not number the words of a kernel from 0 on")
        singles = [Run(member.name.lower()) for member in members]
        twice = next((run.name for run in singles if run.name in lists), None)
        if twice is not None:
            raise KernelError(f"'{twice}' names both a member of {words.__qualname__} and a list of words")
        unknown = [count for count in lists.values() if isinstance(count, str) and Run(count) not in singles]
        if unknown:
            raise KernelError(f"{words.__qualname__} has no member '{unknown[0]}' to count words by")
        return WordLayout((*singles, *(Run(name, (count,)) for name, count in lists.items())))

    @property
    def fixed(self) -> int:
        """How many words come before the first list whose length is only known with the words."""
        total = 0
        for run in self.runs:
            if run.factors is None:
                total += 1
            elif all(isinstance(factor, int) for factor in run.factors):
                total += math.prod(factor for factor in run.factors if isinstance(factor, int))
            else:
                break
        return total

    @property
    def is_fixed(self) -> bool:
        """Whether the number of words is always the same."""
        return all(run.factors is None or not any(isinstance(f, str) for f in run.factors) for run in self.runs)

    def arrange(self, given: Mapping[Any, Any], kernel: str) -> list[Any]:
        """The words in their order.

        Args:
            given: by name, or by member of the enumeration, a word or a list of words.
            kernel: what messages call the kernel.

        Raises:
            KernelError: if words are missing, are not the kernel's, or a list has another length than is stated.
        """
        words = {_name(key): value for key, value in given.items()}
        if len(words) < len(given):
            raise KernelError(f"a word of the kernel '{kernel}' is given by its name and by its member")
        names = {run.name for run in self.runs}
        if words.keys() != names:
            raise KernelError(
                f"the kernel '{kernel}' takes the words {', '.join(sorted(names))}; "
                f"missing: {', '.join(sorted(names - words.keys())) or 'none'}, "
                f"not its own: {', '.join(sorted(words.keys() - names)) or 'none'}"
            )
        arranged: list[Any] = []
        for run in self.runs:
            value = words[run.name]
            if run.factors is None:
                arranged.append(value)
                continue
            if not isinstance(value, Sequence):
                raise KernelError(f"'{run.name}' of the kernel '{kernel}' is a list of words, not {value!r}")
            count = math.prod(factor if isinstance(factor, int) else words[factor] for factor in run.factors)
            if len(value) != count:
                raise KernelError(f"'{run.name}' of the kernel '{kernel}' has {len(value)} words; {count} are stated")
            arranged.extend(value)
        return arranged


def _name(key: object) -> str:
    return key.name.lower() if isinstance(key, enum.Enum) else str(key)
