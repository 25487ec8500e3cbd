"""Checks against the operator schemas that the onnx library knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx

from mace_core.errors import ModelError, UnsupportedModelError
from mace_core.graph.attribute import Attribute, AttributeKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

STANDARD_DOMAINS = ("", "ai.onnx.ml")
"""Domains whose operators are all known; whether anyone can run those of another is the scheduler's question."""

_SINGLE = onnx.defs.OpSchema.FormalParameterOption.Single

_KIND_BY_SCHEMA_NAME = {"TYPE_PROTO": AttributeKind.TYPE, **{kind.name: kind for kind in AttributeKind}}


def standard_domain(domain: str) -> str:
    """The domain as we write it: ``ai.onnx`` is another name of the default domain."""
    return "" if domain == "ai.onnx" else domain


def newest_opset(domain: str) -> int | None:
    """The newest opset version known, or None for domains without schemas here."""
    if domain == "":
        return int(onnx.defs.onnx_opset_version())
    if domain == "ai.onnx.ml":
        return int(onnx.defs.onnx_ml_opset_version())
    return None


@dataclass(frozen=True, slots=True)
class Operator:
    """What a schema says about an operator, read once (the schema objects rebuild their maps at every access).

    ``needed_outputs`` are the places of those that are computed whether anybody reads them or not.
    """

    since_version: int
    inputs: tuple[int, int]
    outputs: tuple[int, int]
    attributes: dict[str, AttributeKind]
    required: tuple[str, ...]
    needed_outputs: frozenset[int] = frozenset()


_OF_RUNTIMES = {
    ("", "SimplifiedLayerNormalization"): Operator(
        since_version=1,
        inputs=(2, 2),
        outputs=(1, 2),
        attributes={"axis": AttributeKind.INT, "epsilon": AttributeKind.FLOAT, "stash_type": AttributeKind.INT},
        required=(),
        needed_outputs=frozenset({0}),
    )
}
"""Operators that onnxruntime's tools write into the domain of ONNX although the standard does not have them."""


class SchemaChecker:
    """Answers whether nodes fit the operators of the opsets a model imports."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._operators: dict[tuple[str, str, int], Operator | None] = {}

    def operator(self, domain: str, op_type: str, version: int) -> Operator | None:
        """The operator as of opset ``version``, or None if there is no such operator."""
        key = (domain, op_type, version)
        if key not in self._operators:
            self._operators[key] = _read_schema(domain, op_type, version)
        return self._operators[key]

    def check(
        self,
        where: str,
        domain: str,
        op_type: str,
        version: int,
        inputs: int,
        outputs: int,
        attributes: Mapping[str, Attribute],
    ) -> None:
        """Check one node of a standard domain.

        Raises:
            UnsupportedModelError: if there is no such operator in that opset.
            ModelError: if the number of inputs or outputs, or an attribute, does not fit the operator.
        """
        operator = self.operator(domain, op_type, version)
        if operator is None:
            raise UnsupportedModelError(
                f"{self._label}: {where} uses the operator '{op_type}', which "
                f"{f'domain {domain!r}' if domain else 'ONNX'} does not have at opset {version}"
            )
        if not operator.inputs[0] <= inputs <= operator.inputs[1]:
            raise self._error(where, f"has {inputs} inputs; the operator takes {_span(*operator.inputs)}")
        if not operator.outputs[0] <= outputs <= operator.outputs[1]:
            raise self._error(where, f"has {outputs} outputs; the operator gives {_span(*operator.outputs)}")
        for name, attribute in attributes.items():
            wanted = operator.attributes.get(name)
            if wanted is None:
                raise self._error(
                    where, f"has an attribute '{name}' that the operator does not have at opset {version}"
                )
            if attribute.kind is not wanted:
                raise self._error(
                    where, f"has attribute '{name}' of kind {attribute.kind.name}; the operator takes {wanted.name}"
                )
        for name in operator.required:
            if name not in attributes:
                raise self._error(where, f"lacks the attribute '{name}'")

    def left_out(self, domain: str, op_type: str, version: int, outputs: Sequence[object]) -> Iterator[int]:
        """The places of outputs that a node leaves out although its operator always has them.

        Everything behind the importer may rely on a value there, which then nobody reads.
        """
        operator = self.operator(domain, op_type, version)
        for index, value in enumerate(outputs):
            needed = index == 0 if operator is None else index in operator.needed_outputs
            if value is None and needed:
                yield index

    def same_operator(self, domain: str, op_type: str, one: int, other: int) -> bool:
        """Whether an operator means the same at two opset versions."""
        if one == other:
            return True
        first, second = self.operator(domain, op_type, one), self.operator(domain, op_type, other)
        return first is not None and second is not None and first.since_version == second.since_version

    def _error(self, where: str, problem: str) -> ModelError:
        return ModelError(f"{self._label}: {where} {problem}")


def _span(low: int, high: int) -> str:
    if low == high:
        return str(low)
    return f"at least {low}" if high >= 2**31 - 1 else f"{low} to {high}"


def _read_schema(domain: str, op_type: str, version: int) -> Operator | None:
    try:
        schema = onnx.defs.get_schema(op_type, version, domain)
    except onnx.defs.SchemaError:
        return _OF_RUNTIMES.get((domain, op_type))
    attributes = schema.attributes
    return Operator(
        schema.since_version,
        (schema.min_input, schema.max_input),
        (schema.min_output, schema.max_output),
        {name: _KIND_BY_SCHEMA_NAME[attribute.type.name] for name, attribute in attributes.items()},
        tuple(name for name, attribute in attributes.items() if attribute.required),
        frozenset(index for index, output in enumerate(schema.outputs) if output.option == _SINGLE),
    )
