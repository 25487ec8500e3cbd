"""The cases of the suite, which of them are usual, and which are left out."""

from __future__ import annotations

import functools
import hashlib
import os
import pickle
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx

KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator")

EXCLUDED = {
    **dict.fromkeys(
        (
            "test_bernoulli",
            "test_bernoulli_double",
            "test_bernoulli_seed",
            "test_bernoulli_expanded",
            "test_bernoulli_double_expanded",
            "test_bernoulli_seed_expanded",
        ),
        "the expected output is one draw of a random generator that ONNX does not specify",
    ),
}
"""Cases that prove nothing, each with the reason.  They count as not passed."""

NARROW_TYPES = frozenset({17, 18, 19, 20, 21, 22, 23, 24, 25, 26})
"""TensorProto element types: the float8 family, 4-bit and 2-bit numbers."""

STRING_TYPE = 8

RANDOM_OPS = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)

UNUSUAL_DOMAINS = frozenset({"ai.onnx.ml", "ai.onnx.preview.training"})


@dataclass(frozen=True)
class SuiteCase:
    """One case: a model, its data sets and how exact the outputs must be.

    Attributes:
        name: as the suite has it, ``test_…``.
        kind: one of `KINDS`.
        op: what it is filed under: the domain-qualified operator, or the kind for models of many nodes.
        unusual: why it does not count as what models use; "" where it does.
        excluded: why it is not run; "" where it is.
    """

    name: str
    kind: str
    op: str
    unusual: str
    excluded: str
    model: onnx.ModelProto
    data_sets: list[tuple[list[Any], list[Any]]] | None
    folder: Path | None
    rtol: float
    atol: float

    def data(self) -> Iterator[tuple[list[Any], list[Any]]]:
        """(inputs, expected outputs) of each data set: arrays, lists for sequences, None for absent optionals."""
        if self.data_sets is not None:
            for inputs, outputs in self.data_sets:
                yield [_plain(item) for item in inputs], [_plain(item) for item in outputs]
            return
        assert self.folder is not None
        graph = self.model.graph
        for folder in sorted(self.folder.glob("test_data_set_*")):
            yield _read(folder, "input", graph.input), _read(folder, "output", graph.output)


STORED = "MACE_TESTING_CACHE"
"""Variable with a folder, of whoever sets it alone, that keeps the cases: making them takes seconds."""


@functools.cache
def suite_cases() -> dict[str, SuiteCase]:
    """All cases by name."""
    folder = os.environ.get(STORED)
    if not folder:
        return _make_cases()
    path = Path(folder) / f"onnx-suite-{_version()}.pickle"
    if path.exists():
        stored: dict[str, SuiteCase] = pickle.loads(path.read_bytes())
        return stored
    found = _make_cases()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:  # (another process may be at it, too)
        pickle.dump(found, file, pickle.HIGHEST_PROTOCOL)
    Path(file.name).replace(path)
    return found


def _version() -> str:
    """Tells apart everything that decides what the cases are."""
    import numpy as np
    import onnx

    parts = (onnx.__version__, np.__version__, sys.version, Path(__file__).read_text(encoding="utf-8"))
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _make_cases() -> dict[str, SuiteCase]:
    import onnx
    from onnx.backend.test.loader import load_model_tests

    found: dict[str, SuiteCase] = {}
    for kind in KINDS:
        with warnings.catch_warnings():  # the suite computes overflows and divisions by zero on purpose
            warnings.simplefilter("ignore")
            loaded = load_model_tests(kind=kind)
        for case in loaded:
            folder = Path(case.model_dir) if case.model_dir else None
            model = case.model if case.model is not None else onnx.load(str(folder / "model.onnx")) if folder else None
            if model is None:
                continue
            found[case.name] = SuiteCase(
                case.name,
                kind,
                _filed_under(model, case.name, kind),
                unusual(model),
                EXCLUDED.get(case.name, ""),
                model,
                case.data_sets,
                folder,
                case.rtol,
                case.atol,
            )
    return found


def quick_names(every: int = 34) -> list[str]:
    """A fixed sample that takes seconds: each ``every``-th case by name."""
    return sorted(suite_cases())[::every]


def unusual(model: onnx.ModelProto) -> str:
    """Why a model is not of the kind that applications use; "" where it is."""
    types = {number for value in (*model.graph.input, *model.graph.output) for number in _type_words(value.type)}
    types |= {tensor.data_type for tensor in model.graph.initializer}
    ops: set[tuple[str, str]] = set()
    for node in _all_nodes(model):
        ops.add((node.domain, node.op_type))
        for attribute in node.attribute:
            if attribute.name in ("to", "dtype", "output_dtype"):
                types.add(attribute.i)
            if attribute.HasField("t"):
                types.add(attribute.t.data_type)
    if types & NARROW_TYPES:
        return "float8, 4-bit or 2-bit numbers"
    if STRING_TYPE in types:
        return "strings"
    if "sequence" in types or any("Sequence" in op for _, op in ops):
        return "sequences"
    if "optional" in types or any(op.startswith("Optional") for _, op in ops):
        return "optionals"
    domains = {domain for domain, _ in ops} & UNUSUAL_DOMAINS
    if domains:
        return f"domain {min(domains)}"
    if any(op in RANDOM_OPS for _, op in ops):
        return "random numbers"
    return "training" if _trains(model) else ""


def _trains(model: onnx.ModelProto) -> bool:
    return any(
        (node.op_type == "Dropout" and len(node.input) > 2 and bool(node.input[2]))
        or any(attribute.name == "training_mode" and attribute.i for attribute in node.attribute)
        for node in _all_nodes(model)
    )


def _type_words(type: onnx.TypeProto) -> set[Any]:
    """Element types, and "sequence" or "optional" where the value is one."""
    match type.WhichOneof("value"):
        case "tensor_type":
            return {type.tensor_type.elem_type}
        case "sequence_type":
            return {"sequence", *_type_words(type.sequence_type.elem_type)}
        case "optional_type":
            return {"optional", *_type_words(type.optional_type.elem_type)}
        case _:
            return set()


def _all_nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    pending = [model.graph.node, *(function.node for function in model.functions)]
    while pending:
        for node in pending.pop():
            yield node
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    pending.append(attribute.g.node)


def _filed_under(model: onnx.ModelProto, name: str, kind: str) -> str:
    if kind not in ("node", "pytorch-operator"):
        return kind
    if name.endswith("_expanded") or "_expanded_" in name:
        return "function bodies"
    node = next((n for n in model.graph.node if n.op_type != "Constant"), model.graph.node[0])
    return f"{node.domain}.{node.op_type}" if node.domain else str(node.op_type)


def _plain(item: Any) -> Any:
    import onnx
    from onnx import numpy_helper

    if isinstance(item, onnx.TensorProto):
        return numpy_helper.to_array(item)
    if isinstance(item, onnx.SequenceProto):
        return numpy_helper.to_list(item)
    if isinstance(item, onnx.OptionalProto):
        return numpy_helper.to_optional(item)
    return item


def _read(folder: Path, what: str, specs: Any) -> list[Any]:
    import onnx

    found = []
    for index, spec in enumerate(specs):
        path = folder / f"{what}_{index}.pb"
        if not path.exists():
            break
        kind = spec.type.WhichOneof("value")
        holder = {"sequence_type": onnx.SequenceProto, "optional_type": onnx.OptionalProto}.get(
            kind, onnx.TensorProto
        )()
        holder.ParseFromString(path.read_bytes())
        found.append(_plain(holder))
    return found
