"""Steps as text: ``picture size=224x224 fit=crop mean=123.7,116.3,103.5 scale=0.017``."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable
from typing import Any

from mace_core.errors import UsageError
from mace_core.processing.pictures import Picture
from mace_core.processing.results import Boxes, Classes, Softmax, Text
from mace_core.processing.sound import Sound
from mace_core.processing.step import OnnxStep, Step


def _numbers(text: str) -> tuple[float, ...]:
    found = tuple(float(part) for part in text.split(","))
    if not all(map(math.isfinite, found)):
        raise ValueError("not finite")
    return found


def _number(text: str) -> float:
    (found,) = _numbers(text)  # several raise ValueError, as what is none does
    return found


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", text)
    if found is None:
        raise ValueError("no size")
    return int(found[1]), int(found[2])


def _flag(text: str) -> bool:
    return {"yes": True, "true": True, "no": False, "false": False}[text]


Read = Callable[[str], Any]

_STEPS: dict[str, tuple[type[Step], dict[str, tuple[str, Read]]]] = {
    "picture": (
        Picture,
        {
            "size": ("size", _size),
            "fit": ("fit", str),
            "resize": ("resize", int),
            "mean": ("mean", _numbers),
            "scale": ("scale", _numbers),
            "bgr": ("bgr", _flag),
            "layout": ("layout", str.upper),
            "filler": ("filler", _number),
            "input": ("port", str),
        },
    ),
    "sound": (
        Sound,
        {
            **{name: (name, int) for name in ("mels", "rate", "frame", "hop", "fft", "power")},
            **{name: (name, _number) for name in ("low", "high", "floor", "mean", "factor")},
            **{name: (name, str) for name in ("window", "scale", "log")},
            "int16": ("int16", _flag),
            "input": ("port", str),
        },
    ),
    "softmax": (Softmax, {"axis": ("axis", int), "output": ("port", str)}),
    "classes": (
        Classes,
        {"top": ("top", int), "labels": ("labels", str), "softmax": ("softmax", _flag), "output": ("port", str)},
    ),
    "text": (
        Text,
        {"labels": ("labels", str), "blank": ("blank", int), "space": ("space", _flag), "output": ("port", str)},
    ),
    "boxes": (
        Boxes,
        {
            "scores": ("scores", str),
            "iou": ("iou", _number),
            "score": ("score", _number),
            "top": ("top", int),
            "center": ("center", _flag),
            "last": ("last", _flag),
            "labels": ("labels", str),
            "output": ("port", str),
        },
    ),
}
_BEFORE = ("picture", "sound")
_NEEDS = {"boxes": "scores=OUTPUT, with a score for each class", "sound": "mels=N, of the model"}


def parse_step(text: str, *, is_before: bool) -> Step:
    """A step from its text: a name and options, or the path of an ``.onnx`` file (with ``input=`` or ``output=``).

    Raises:
        UsageError: saying what it does not mean.
    """
    option = "--before" if is_before else "--after"
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"{option} '{text}': {error}") from None
    if not words:
        raise UsageError(f"{option} '{text}' names no step")
    name, *given = words
    port = "input" if is_before else "output"
    if name.lower().endswith(".onnx"):
        options = _options(option, text, given, {port: ("port", str)})
        return OnnxStep(name, **options)
    known = [each for each in _STEPS if (each in _BEFORE) == is_before]
    if name not in known:
        raise UsageError(f"{option} '{text}': '{name}' is none of {', '.join(known)}, and no .onnx file")
    kind, takes = _STEPS[name]
    try:
        return kind(**_options(option, text, given, takes))
    except TypeError:
        raise UsageError(f"{option} '{text}': {name} needs {_NEEDS.get(name, 'more')}") from None


def _options(option: str, text: str, given: list[str], takes: dict[str, tuple[str, Read]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for each in given:
        key, equals, value = each.partition("=")
        value = value if equals else "yes"
        if key not in takes:
            raise UsageError(f"{option} '{text}': '{key}' is none of {', '.join(takes)}")
        field, read = takes[key]
        try:
            found[field] = read(value)
        except (ValueError, KeyError):
            raise UsageError(f"{option} '{text}': {key}={value} means nothing") from None
    return found
