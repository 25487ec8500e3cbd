"""What an inspection finds: plain data."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


class Severity(enum.Enum):
    """How bad a problem is."""

    ERROR = "error"  # the model cannot be loaded or run as it is
    WARNING = "warning"  # it runs, and probably not as meant
    NOTE = "note"  # worth knowing


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, or odd, with what to do about it."""

    severity: Severity
    text: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class ValueFact:
    """An input or output.

    Attributes:
        name: of the value.
        type: as text, ``float32[n, 3]``.
        is_optional: whether the model has a default for it (an initializer of its name).
        is_state: whether a session keeps it from run to run, so that an application neither feeds nor reads it.
    """

    name: str
    type: str
    is_optional: bool = False
    is_state: bool = False


@dataclass(frozen=True, slots=True)
class ParameterCount:
    """Constants of one element type: tensors, elements in them, bytes as stored."""

    dtype: str
    tensors: int
    elements: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class CompiledFact:
    """What a package holds that a device compiled.

    Attributes:
        device: what it was compiled for.
        signature: shapes of the inputs that it is for.
        subgraphs, nodes: how many.
        nbytes: its size.
        options: that the device had, as JSON.
        compatibility: what it depends on, in the provider's words.
    """

    device: str
    signature: str
    subgraphs: int
    nodes: int
    nbytes: int
    options: str
    compatibility: str


@dataclass(frozen=True, slots=True)
class SectionFact:
    """A section of a package: of which kind, with what name, how many bytes at which place."""

    kind: str
    name: str
    offset: int
    nbytes: int
    is_required: bool


@dataclass(frozen=True, slots=True)
class LayerFact:
    """A layer of the author's model, as its exporter calls it.

    Attributes:
        name: ``layers.0.conv``; "" for the model itself.
        kind: its class, ``Conv2d``; "" where that is not known.
        nodes: how many come from it directly.
        parameters: elements of the constants that they read.
        macs: multiply-accumulates of them at the shapes of the inspection.
    """

    name: str
    kind: str
    nodes: int
    parameters: int
    macs: int


@dataclass(frozen=True, slots=True)
class StepFact:
    """A step before or after the model of a package: "before" or "after", its name, and its options."""

    when: str
    step: str
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SampleFact:
    """A sample in a package: its name, where its inputs come from, what computed the outputs, and the tolerances."""

    name: str
    source: str
    expected_by: str
    tolerances: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class DocumentFact:
    """A text in a package: "report", "license" or "card", the name of its file, its media type, all of it."""

    role: str
    name: str
    type: str
    text: str


@dataclass(frozen=True, slots=True)
class SignatureFact:
    """A signature of a package: the key that it names, and whether it fits (None where that cannot be told here)."""

    key: str
    fits: bool | None


@dataclass(slots=True)
class Inspection:
    """Everything found about a model.

    Attributes:
        model: as messages call it.
        file_bytes: size of the model file; external data is not in it.
        properties: what the file says of its origin (IR version, producer, version, description …).
        opsets: version by domain; the default domain is ``ai.onnx``.
        inputs, outputs: in the order of the model.
        metadata: the model's own key-value properties.
        operators: how many nodes there are of each operator, bodies of control flow included, the most frequent first.
        file_operators: the same as the file's own format calls them, of formats that are imported as others.
        parameters: constants by element type, most bytes first.
        shapes: of the inputs, that ``macs`` and ``peak_activation_bytes`` are for.
        assumed: free dimensions that had to be given a size for that, as text.
        macs: multiply-accumulates of one run; None where the shapes are not known.
        peak_activation_bytes: most bytes that inputs and results take at one moment if nodes run in order and each
            result is freed after its last reader; None where the shapes are not known.
        unsized: nodes whose results get a size only while they run; they are not in the two figures.
        problems: the worst first.
        layers: of the author's model, where the exporter told them.
        compiled: of a package, what devices compiled.
        sections: of a package, all of it.
        steps, samples, documents, signatures: of a package, what belongs to its model.
    """

    model: str
    file_bytes: int = 0
    properties: dict[str, str] = field(default_factory=dict)
    opsets: dict[str, int] = field(default_factory=dict)
    inputs: list[ValueFact] = field(default_factory=list)
    outputs: list[ValueFact] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)
    operators: dict[str, int] = field(default_factory=dict)
    file_operators: dict[str, int] = field(default_factory=dict)
    parameters: list[ParameterCount] = field(default_factory=list)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    assumed: str = ""
    macs: int | None = None
    peak_activation_bytes: int | None = None
    unsized: int = 0
    problems: list[Problem] = field(default_factory=list)
    layers: list[LayerFact] = field(default_factory=list)
    compiled: list[CompiledFact] = field(default_factory=list)
    sections: list[SectionFact] = field(default_factory=list)
    steps: list[StepFact] = field(default_factory=list)
    samples: list[SampleFact] = field(default_factory=list)
    documents: list[DocumentFact] = field(default_factory=list)
    signatures: list[SignatureFact] = field(default_factory=list)

    @property
    def parameter_count(self) -> int:
        """Elements of all constants."""
        return sum(count.elements for count in self.parameters)

    @property
    def weight_bytes(self) -> int:
        """Bytes of all constants."""
        return sum(count.nbytes for count in self.parameters)

    def add(self, severity: Severity, text: str, hint: str = "") -> None:
        """Tell a problem."""
        self.problems.append(Problem(severity, text, hint))

    def as_data(self) -> Mapping[str, Any]:
        """Everything, ready for JSON."""
        data = asdict(self)
        data["problems"] = [{**asdict(each), "severity": each.severity.value} for each in self.problems]
        return {**data, "parameter_count": self.parameter_count, "weight_bytes": self.weight_bytes}
