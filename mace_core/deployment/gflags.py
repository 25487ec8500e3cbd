"""Command lines in the manner of gflags, which MACE's programs use.

``--flag=value``, ``--flag value`` and ``-flag`` are the same; a switch is ``--flag``, ``--noflag`` or ``--flag=false``;
``--`` ends the flags; ``--flagfile=FILE`` reads more of them, one a line.  The last one given holds.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mace_core.errors import UsageError, shorten

Value = str | int | bool

TRUE = ("1", "t", "true", "y", "yes")
FALSE = ("0", "f", "false", "n", "no")

_MOST_FILES = 8
"""Files of flags that one names another, in a row."""


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag.

    Attributes:
        name: with ``_``; ``-`` may stand for it.
        default: also says what the flag takes: a text, a whole number or a switch.
        help: what it does.
        unused: why it changes nothing here; "" where it does.
        choices: what a number may be; empty for any.
    """

    name: str
    default: Value
    help: str
    unused: str = ""
    choices: range | None = None


@dataclass(frozen=True, slots=True)
class Flags:
    """The flags of a command line.

    Attributes:
        values: of every flag, by its name.
        given: those that the command line names.
    """

    values: Mapping[str, Value]
    given: frozenset[str]

    def text(self, name: str) -> str:
        """The value of a flag that takes a text."""
        value = self.values[name]
        assert isinstance(value, str)
        return value

    def number(self, name: str) -> int:
        """The value of a flag that takes a whole number."""
        value = self.values[name]
        assert isinstance(value, int)
        return value

    def is_on(self, name: str) -> bool:
        """Whether a switch is on."""
        return self.values[name] is True


def parse(arguments: Sequence[str], known: Sequence[Flag]) -> Flags:
    """Read a command line.

    Raises:
        UsageError: for a flag that there is not, a value that is none, and words that are no flags.
    """
    by_name = {flag.name: flag for flag in known}
    values: dict[str, Value] = {flag.name: flag.default for flag in known}
    given: set[str] = set()
    for flag, text in _pairs(list(arguments), by_name, 0):
        values[flag.name] = _value(flag, text)
        given.add(flag.name)
    return Flags(values, frozenset(given))


def _pairs(words: list[str], by_name: Mapping[str, Flag], depth: int) -> Iterator[tuple[Flag, str]]:
    while words:
        word = words.pop(0)
        if word == "--" and not words:
            return
        if not word.startswith("-") or word in ("-", "--"):
            raise UsageError(f"'{shorten(word)}' is no flag: write --flag=value (--help lists them)")
        name, equals, text = word.lstrip("-").partition("=")
        name = name.replace("-", "_")
        if name == "flagfile":
            yield from _pairs(_lines(text if equals else _next(words, name), depth), by_name, depth + 1)
            continue
        flag = by_name.get(name)
        if flag is None and name.startswith("no") and isinstance(_default(by_name.get(name[2:])), bool):
            if equals:
                raise UsageError(f"--{name} takes no value")
            yield by_name[name[2:]], "false"
            continue
        if flag is None:
            near = difflib.get_close_matches(name, list(by_name), n=1)
            meant = f"; did you mean --{near[0]}?" if near else " (--help lists them)"
            raise UsageError(f"there is no flag --{shorten(name, 60)}{meant}")
        if equals:
            yield flag, text
        elif isinstance(flag.default, bool):
            yield flag, "true"
        else:
            yield flag, _next(words, name)


def _default(flag: Flag | None) -> Value | None:
    return None if flag is None else flag.default


def _next(words: list[str], name: str) -> str:
    if not words:
        raise UsageError(f"--{name} has no value: write --{name}=…")
    return words.pop(0)


def _lines(name: str, depth: int) -> list[str]:
    if depth >= _MOST_FILES:
        raise UsageError(f"--flagfile={shorten(name)}: files of flags name each other more than {_MOST_FILES} deep")
    try:
        if not Path(name).is_file():
            raise UsageError(f"--flagfile={shorten(name)}: there is no such file")
        lines = Path(name).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise UsageError(f"--flagfile={shorten(name)}: it cannot be read: {error}") from None
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def _value(flag: Flag, text: str) -> Value:
    if isinstance(flag.default, bool):
        if text.lower() not in TRUE + FALSE:
            raise UsageError(f"--{flag.name}={shorten(text, 60)}: it is true or false")
        return text.lower() in TRUE
    if isinstance(flag.default, int):
        digits = text.strip().removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 9):
            raise UsageError(f"--{flag.name}={shorten(text, 60)}: it is a whole number")
        number = int(text)
        if flag.choices is not None and number not in flag.choices:
            ends = f"{flag.choices[0]} to {flag.choices[-1]}"
            raise UsageError(f"--{flag.name}={number}: it is {ends}: {flag.help}")
        return number
    return text


def usage(program: str, known: Sequence[Flag]) -> str:
    """What ``--help`` prints."""
    lines = [f"{program}: runs a converted model with the flags of MACE's mace_run", ""]
    for flag in known:
        shown = f'"{flag.default}"' if isinstance(flag.default, str) else str(flag.default).lower()
        note = f" [changes nothing here: {flag.unused}]" if flag.unused else ""
        lines.append(f"  --{flag.name} ({flag.help}) default: {shown}{note}")
    return "\n".join(lines) + "\n"
