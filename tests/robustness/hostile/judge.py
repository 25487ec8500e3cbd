"""What a message must be: one statement in words that names the model or what in it is wrong, and nothing of ours.

A statement may end in a colon and be followed by one indented line for each node that it is about.
"""

from __future__ import annotations

import re
from pathlib import Path

LONGEST = 1500

_INTERNALS = (
    r"\b(Key|Index|Attribute|Type|Value|Assertion|Recursion|Overflow|Runtime|UnboundLocal|ZeroDivision)Error\b",
    r"list index out of range",
    r"object has no attribute",
    r"NoneType",
    r"object is not (subscriptable|iterable|callable)",
    r"unsupported operand type",
    r"unexpected keyword argument",
    r"positional argument",
    r"not enough values to unpack",
    r"too many values to unpack",
    r"maximum recursion depth",
    r"Traceback",
    r'File "',
    r"\bline \d+, in ",
    r"0x[0-9a-f]{6,}",
    r"<class '",
    r"std::",
    r"\.(cc|cpp|h|py):\d+",
    r"site-packages",
    r"\[ShapeInferenceError\]|\[TypeInferenceError\]",
    r"onnx_cpp2py",
    r"google\.protobuf",
)

_NAMED = re.compile(
    r"[Nn]ode '|[Ii]nput '|[Oo]utput '|[Ii]nitializer|attribute '|[Tt]ensor|[Vv]alue|[Mm]odel|function '"
)


def faults(message: str, path_hint: str = "model.") -> list[str]:
    """What is wrong with a message; nothing if it is as it should be."""
    found = []
    if not message.strip():
        return ["it is empty"]
    if len(message) > LONGEST:
        found.append(f"it has {len(message)} characters")
    lines = message.split("\n")
    listed = len(lines) > 1 and lines[0].endswith(":") and all(line.startswith("  ") for line in lines[1:])
    if any(not character.isprintable() for line in (lines if listed else [message]) for character in line):
        found.append("it is more than one line, or holds characters that cannot be printed")
    for pattern in _INTERNALS:
        inner = re.search(pattern, message)
        if inner:
            found.append(f"it shows internals: {inner.group(0)!r}")
    if not _NAMED.search(message):
        found.append("it names neither a node nor a tensor nor the model")
    if path_hint not in message and not re.search(r"[Nn]ode '|[Mm]odel '|input '", message):
        found.append("it tells neither the file nor the place in it")
    if message.count(" ") < 3:
        found.append("it is not a sentence")
    if not re.match(r"[A-Za-z'\"0-9/.]", message):
        found.append("it does not begin with a word")
    return found


def without_folder(message: str, folder: Path) -> str:
    """The message with the scratch folder left out, to be compared from run to run."""
    return message.replace(f"{folder}/", "")
