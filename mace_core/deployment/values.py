"""What the texts of a deployment file mean: switches, choices, lists, shapes, ranges, checksums, names.

Each is a type for a pydantic model.  A text that means nothing raises ``ValueError`` with the end of a sentence that
begins with the key: "is 'gpus'; it is one of cpu, gpu".
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator

from mace_core.errors import shorten

ON = ("1", "on", "true", "yes")
OFF = ("0", "off", "false", "no")

LARGEST_SIZE = (1 << 31) - 1
"""Of a dimension; MACE reads it as a 32-bit integer."""

MOST_DIMENSIONS = 16

LARGEST_NUMBER = 3.4e38
"""Of a range; inputs are float32 at most."""

SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}")
"""Of a library: it is the name of a folder and of files."""

MODEL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
"""Of a model: a name that C and C++ take."""

_KEYWORDS = (
    "alignas alignof and and_eq asm auto bitand bitor bool break case catch char class compl concept const "
    "const_cast constexpr continue co_await co_return co_yield decltype default define defined delete do "
    "double dynamic_cast elif else endif enum error explicit export extern false final float for friend goto "
    "if ifdef ifndef import include inline int line long module mutable namespace new noexcept not not_eq "
    "nullptr operator or or_eq override pragma private protected public register reinterpret_cast requires "
    "return short signed sizeof static static_assert static_cast struct switch synchronized template this "
    "thread_local throw true try typedef typeid typename undef union unsigned using virtual void volatile "
    "wchar_t while xor xor_eq"
)
KEYWORDS = frozenset(_KEYWORDS.split())
"""What C++ keeps for itself; no model may be called so."""


def shown(value: Any) -> str:
    """A value for a message."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    return f"'{shorten(str(value), 80)}'"


def as_text(value: Any) -> str:
    """One text.

    Raises:
        ValueError: for a list or a mapping.
    """
    if not isinstance(value, str):
        raise ValueError(f"is {shown(value)}; it takes one text")
    return value


def as_list(value: Any) -> list[str]:
    """A list, for which one text may stand: ``[a]`` is written ``a``, ``[a, b]`` also ``a,b`` without brackets."""
    if isinstance(value, dict):
        raise ValueError("is a mapping; it takes a list, or one text")
    items = value if isinstance(value, list) else [value]
    if None in items:
        raise ValueError("has an item without a value")
    return [as_text(item).strip() for item in items]


def nearest(name: str, known: Sequence[str]) -> str:
    """What was probably meant; "" if nothing is near."""
    return next(iter(difflib.get_close_matches(name.lower(), [each.lower() for each in known], n=1, cutoff=0.6)), "")


def one_of(*known: str, also: dict[str, str] | None = None) -> Callable[[Any], str]:
    """A choice among words, whose case does not matter; ``also``: other spellings, by what they stand for."""
    words = {word.lower(): word for word in known} | {other.lower(): word for other, word in (also or {}).items()}

    def check(value: Any) -> str:
        text = as_text(value).strip()
        if text.lower() in words:
            return words[text.lower()]
        near = nearest(text, known)
        meant = f" (did you mean {words[near]}?)" if near else ""
        raise ValueError(f"is {shown(text)}; it is one of {', '.join(known)}{meant}")

    return check


def each_of(check: Callable[[Any], str]) -> Callable[[Any], tuple[str, ...]]:
    """A list of choices."""
    return lambda value: tuple(check(item) for item in as_list(value))


def switch(value: Any) -> bool:
    """0 or 1, on or off."""
    text = as_text(value).strip().lower()
    if text not in ON + OFF:
        raise ValueError(f"is {shown(value)}; it is 0 or 1")
    return text in ON


def whole(value: Any, *, least: int = 0, most: int = LARGEST_SIZE) -> int:
    """A whole number."""
    text = as_text(value).strip()
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        raise ValueError(f"is {shown(value)}; it is a whole number from {least} on")
    number = int(text)
    if not least <= number <= most:
        raise ValueError(f"is {number}; it is a whole number from {least} to {most}")
    return number


def real(value: Any) -> float:
    """A number that is finite."""
    text = as_text(value).strip()
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"is {shown(value)}; it is a number")
    return number


def shape(text: str) -> tuple[int, ...]:
    """``1,224,224,3``; spaces and an ``x`` between are taken too; "" for no dimensions."""
    parts = [part for part in re.split(r"[,x]", text.replace(" ", "")) if part]
    if len(parts) > MOST_DIMENSIONS:
        raise ValueError(f"has a shape of {len(parts)} dimensions; tensors have at most {MOST_DIMENSIONS}")
    for part in parts:
        if not re.fullmatch(r"[0-9]{1,18}", part) or not 1 <= int(part) <= LARGEST_SIZE:
            raise ValueError(f"has the shape {shown(text)}; write it like 1,224,224,3, every size from 1 on")
    return tuple(map(int, parts))


def shapes(value: Any) -> tuple[tuple[int, ...], ...]:
    """A shape for each tensor; ``[1,224,224,3]`` without quotation marks is one shape too, not four."""
    if isinstance(value, list) and any(isinstance(item, list) for item in value):
        return tuple(shape(",".join(as_list(item))) for item in value)
    items = as_list(value)
    if len(items) > 1 and all(re.fullmatch(r"[0-9]+", item) for item in items):
        return (shape(",".join(items)),)
    return tuple(shape(item) for item in items)


def ranges(value: Any) -> tuple[tuple[float, float], ...]:
    """``-1.0,1.0`` for each tensor; ``[-1.0, 1.0]`` is one range too."""
    items = as_list(value)
    if len(items) == 2 and not any("," in item for item in items):
        items = [",".join(items)]
    found = []
    for item in items:
        ends = item.split(",")
        if len(ends) != 2:
            raise ValueError(f"has the range {shown(item)}; write it like -1.0,1.0")
        low, high = real(ends[0]), real(ends[1])
        if low >= high:
            raise ValueError(f"has the range {shown(item)}, whose first end is not below its second")
        if max(-low, high) > LARGEST_NUMBER:
            raise ValueError(f"has the range {shown(item)}, which is wider than that of float32")
        found.append((low, high))
    return tuple(found)


def checksum(value: Any) -> str:
    """A SHA-256 in hexadecimal digits."""
    text = as_text(value).strip().lower()
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise ValueError(f"is {shown(value)}; a SHA-256 has 64 hexadecimal digits (`sha256sum FILE` prints it)")
    return text


def library_name(value: Any) -> str:
    """A name that is safe as that of a folder."""
    text = as_text(value).strip()
    if not SAFE_NAME.fullmatch(text):
        raise ValueError(
            f"is {shown(value)}; it becomes the name of a folder: letters, digits and _ . + - (not first), at most 100"
        )
    return text


def model_name(text: str) -> str:
    """A name that C and C++ take."""
    if not MODEL_NAME.fullmatch(text):
        raise ValueError(
            f"the model is called {shown(text)}; its name becomes one of C: letters, digits and _, no digit first"
        )
    if text in KEYWORDS:
        raise ValueError(f"the model is called '{text}', which is a keyword of C++; give it another name")
    return text


Text: TypeAlias = Annotated[str, BeforeValidator(as_text)]
Texts: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(lambda value: tuple(as_list(value)))]
Switch: TypeAlias = Annotated[bool, BeforeValidator(switch)]
Whole: TypeAlias = Annotated[int, BeforeValidator(whole)]
Shapes: TypeAlias = Annotated[tuple[tuple[int, ...], ...], BeforeValidator(shapes)]
Ranges: TypeAlias = Annotated[tuple[tuple[float, float], ...], BeforeValidator(ranges)]
Checksum: TypeAlias = Annotated[str, BeforeValidator(checksum)]
