"""Errors are written in one style (CONTRIBUTING.md): one sentence, lower-case start, no final stop."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import onnx

ROOT = Path(__file__).parents[2]
PACKAGES = [ROOT / "mace_core", *ROOT.glob("plugins/*/mace_*"), ROOT / "examples" / "vendor_plugin" / "acme_npu"]
NAMES = {schema.name for schema in onnx.defs.get_all_schemas_with_history()} | {"FullyConnected", "OpenVINO", "Session"}
"""Words that begin with a capital because they are names."""


def messages() -> Iterator[tuple[str, str]]:
    """Where an error is made, and its message with ``{}`` for what is filled in."""
    for package in PACKAGES:
        for path in sorted(package.rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and node.args and called(node.func).endswith("Error"):
                    for text in texts(node.args[0]):
                        yield f"{path.relative_to(ROOT)}:{node.lineno}", text


def called(function: ast.expr) -> str:
    return function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")


def texts(argument: ast.expr) -> Iterator[str]:
    match argument:
        case ast.Constant(value=str() as text):
            yield text
        case ast.JoinedStr(values=parts):
            yield "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in parts)  # type: ignore[misc]
        case ast.IfExp(body=body, orelse=orelse):
            yield from texts(body)
            yield from texts(orelse)


def fault(text: str) -> str:
    """What is wrong with a message; "" where nothing is."""
    first = re.match(r"[A-Za-z]*", text)[0]  # type: ignore[index]
    if re.fullmatch(r"[A-Z][a-z]+\w*", first) and first not in NAMES:
        return "it begins with a capital"
    if re.search(r"[^.]\.$", text):
        return "it ends with a stop"
    if re.search(r"[a-z0-9'\")}]\. [A-Z]", text):
        return "it is more than one sentence"
    return ""


def test_every_message_is_one_sentence_in_one_style() -> None:
    found = list(messages())
    assert len(found) > 400
    assert [f"{place}: {wrong}: {text}" for place, text in found if (wrong := fault(text))] == []


def test_what_is_wrong_is_seen() -> None:
    assert fault("The model is empty") == "it begins with a capital"
    assert fault("the model is empty.") == "it ends with a stop"
    assert fault("it is empty. Fetch it") == "it is more than one sentence"
    assert not fault("node '{}' (Conv): could not allocate {} bytes; lower the batch …")
    assert not fault("Conv takes at most 3 inputs")
