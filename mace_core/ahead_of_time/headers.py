"""The C header of a library: the functions that answer its models, and what they take and give."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mace_core.ahead_of_time.ranges import SizeRange, shape_text
from mace_core.native.library_model_ir import StateFacts, TensorFacts
from mace_core.tensor import DType

_KEYWORDS = """
alignas alignof and asm auto bool break case catch char class const continue default delete do
double else enum explicit export extern false float for friend goto if inline int long mutable
namespace new not operator or private protected public register restrict return short signed sizeof
static struct switch template this throw true try typedef typename union unsigned using virtual void
volatile while xor
"""
"""Of C and C++: no name of a function's prefix."""


class HeaderModel(NamedTuple):
    """A model as a header tells of it: the prefix of its names, its file, and what it takes and gives."""

    symbol: str
    file: str
    inputs: Sequence[TensorFacts]
    outputs: Sequence[TensorFacts]
    states: Sequence[StateFacts] = ()


def symbol_of(name: str) -> str:
    """A prefix for names in C, made of the name of a file."""
    text = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_").lower()
    if not text or not re.match(r"[a-z]", text) or text in _KEYWORDS.split() or text.startswith("mace"):
        text = f"model_{text}".rstrip("_")
    return text


def header_text(library: str, models: Sequence[HeaderModel], made_by: str) -> str:
    """The header of a library."""
    guard = f"MACE_{library.upper()}_H"
    parts = [
        f"/* {library}: made by {made_by}.  See mace_runtime.h for what can be done with a model. */",
        f"#ifndef {guard}",
        f"#define {guard}",
        "",
        '#include "mace_runtime.h"',
        "",
        "#ifdef __cplusplus",
        'extern "C" {',
        "#endif",
    ]
    for model in models:
        parts += ["", f"/* {_comment(model.file)}", " *"]
        for kind, tensors in (("inputs", model.inputs), ("outputs", model.outputs)):
            for number, tensor in enumerate(tensors):
                parts.append(f" * {kind}[{number}]: {_comment(tensor_text(tensor))}")
        for state in model.states:
            parts.append(f" * state: inputs[{state.input}] is fed what outputs[{state.output}] was in the run before")
        parts += [" */", f"const mace_model *{model.symbol}_model(void);"]
    parts += ["", "#ifdef __cplusplus", "}", "#endif", "", f"#endif /* {guard} */", ""]
    return "\n".join(parts)


def tensor_text(tensor: TensorFacts) -> str:
    """``x: float32 1x3x48x320..640``."""
    sizes = [
        low if low == high else SizeRange(low, high) for low, high in zip(tensor.smallest, tensor.largest, strict=True)
    ]
    return f"{tensor.name}: {DType(tensor.type).label} {shape_text(sizes)}"


def runtime_headers() -> list[Path]:
    """The headers that all libraries share."""
    return sorted((Path(__file__).parent / "include").iterdir())


def _comment(text: str) -> str:
    """A text that does not end the comment it is in."""
    return text.replace("*/", "* /").replace("\n", " ").replace("\\", "/")
