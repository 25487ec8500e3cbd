"""Samples in a package: inputs, the outputs that a trusted engine computed of them, and how far a device may be off.

A sample makes a package prove itself on a device that has neither the original model nor another engine.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mace_core.errors import InputError, PackageError, UsageError
from mace_core.graph import Graph
from mace_core.package.layout import ALIGNMENT, Section
from mace_core.package.reader import Package
from mace_core.package.writer import NewSection
from mace_core.tensor import DType, Tensor, TensorType, ValueType

SAMPLE = "sample"
"""The kind of section."""

SAMPLE_FORM = 1
"""Of the facts; told in them."""

ANY_DEVICE = "default"
"""The key of the tolerance for devices that no other key is for."""

TOLERANCES: Mapping[str, float] = {"cpu": 1e-4, "gpu": 1e-3, "dsp": 3e-2, "apu": 3e-2, "npu": 3e-2, ANY_DEVICE: 3e-2}
"""Largest error by kind of device, as a part of the range of an output, or of its largest magnitude where that is more:
accelerators compute in 16 bits or fewer, and 0.51 beside 0.49 has lost no digit that they have."""

_MOST_DIMENSIONS = 64
_LARGEST_SIZE = (1 << 62) - 1
_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class Sample:
    """A run whose results are known.

    Attributes:
        name: tells it from others of the package.
        inputs, outputs: tensors by the names of the model's inputs and outputs.
        expected_by: what computed the outputs ("onnxruntime 1.22.0").
        source: where the inputs come from, for people ("zidane.jpg", "random, seed 0").
        tolerances: largest error allowed, as a part of the range of an output, by qualified name, provider or kind of
            device; "default" for all others.
    """

    name: str
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    expected_by: str
    source: str = ""
    tolerances: Mapping[str, float] = field(default_factory=lambda: dict(TOLERANCES))

    def __post_init__(self) -> None:
        if not 0 < len(self.name) <= _LONGEST_NAME or not self.name.isprintable():
            raise UsageError(f"a sample has a name of 1 to {_LONGEST_NAME} characters, not '{self.name:.40}'")
        check_tolerances(self.tolerances)

    def tolerance(self, device: str, kind: str) -> float:
        """The largest error allowed on a device, as a part of the range of an output.

        Args:
            device: its qualified name, ``provider:id``.
            kind: as `mace_core.provider.DeviceKind` has it: ``cpu``, ``gpu``, ``dsp``, ``apu`` or ``npu``.
        """
        for key in (device, device.partition(":")[0], kind, ANY_DEVICE):
            if key in self.tolerances:
                return self.tolerances[key]
        return TOLERANCES[ANY_DEVICE]


def check_tolerances(tolerances: Mapping[str, float]) -> None:
    """
    Raises:
        UsageError: for one that is no part of a range.
    """
    for key, allowed in tolerances.items():
        if isinstance(allowed, bool) or not isinstance(allowed, int | float) or not 0 <= allowed < math.inf:
            raise UsageError(f"the tolerance for '{key:.40}' is a number from 0 on, not {allowed!r:.20}")


def check_fits(sample: Sample, graph: Graph, label: str) -> None:
    """Refuse a sample of another model.

    Args:
        sample: to be looked at.
        graph: the model.
        label: how messages call it.

    Raises:
        InputError: naming what does not fit.
    """
    inputs = {value.name: value.type for value in graph.inputs} | dict(graph.defaults)
    needed, made = {value.name for value in graph.inputs}, {value.name for value in graph.outputs}
    wrong = sorted(sample.inputs.keys() - inputs.keys() | needed - sample.inputs.keys())
    wrong += sorted(sample.outputs.keys() ^ made)
    wrong += [name for name, tensor in sample.inputs.items() if not _takes(inputs.get(name), tensor)]
    if wrong:
        raise InputError(
            f"{label}: the sample '{sample.name}' is for another model: '{wrong[0]}' is not what this one has; make "
            "samples of this model"
        )


def _takes(type: ValueType | None, tensor: Tensor) -> bool:
    """Whether an input of a type may be fed this tensor."""
    if not isinstance(type, TensorType):
        return type is None
    if type.dtype is not tensor.dtype:
        return False
    if type.shape is None:
        return True
    pairs = zip(type.shape, tensor.shape, strict=False)
    return len(type.shape) == len(tensor.shape) and all(not isinstance(a, int) or a == b for a, b in pairs)


def sample_sections(samples: Sequence[Sample]) -> list[NewSection]:
    """The sections of samples.

    Raises:
        UsageError: if two have one name.
    """
    names = [sample.name for sample in samples]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two samples are named '{name}': give each a name of its own")
    return [_section(sample) for sample in samples]


def _section(sample: Sample) -> NewSection:
    parts: list[bytes | memoryview] = []
    end = 0

    def rows(tensors: Mapping[str, Tensor]) -> list[list[Any]]:
        nonlocal end
        found = []
        for name, tensor in tensors.items():
            content = _content(tensor)
            nbytes = memoryview(content).nbytes
            found.append([name, tensor.dtype.label, list(tensor.shape), end, nbytes])
            gap = -nbytes % ALIGNMENT
            parts.extend((content, bytes(gap)))
            end += nbytes + gap
        return found

    facts = {
        "form": SAMPLE_FORM,
        "inputs": rows(sample.inputs),
        "outputs": rows(sample.outputs),
        "expected_by": sample.expected_by,
        "source": sample.source,
        "tolerances": dict(sample.tolerances),
    }
    return NewSection(SAMPLE, sample.name, parts, facts=facts)


def _content(tensor: Tensor) -> bytes | memoryview:
    """A tensor's bytes; texts as a list in JSON."""
    if tensor.dtype is DType.STRING:
        texts = [one if isinstance(one, str) else one.decode("utf-8") for one in tensor.payload.reshape(-1).tolist()]
        return json.dumps(texts).encode()
    return np.ascontiguousarray(tensor.payload).data if tensor.payload.size else b""


def read_samples(package: Package) -> list[Sample]:
    """The samples of a package, looked through; tensors lie where they are in the file.

    Raises:
        PackageError: for a sample that is not one, or in a form that this version does not know.
    """
    found = [_read(package, section) for section in package.of_kind(SAMPLE)]
    if len({sample.name for sample in found}) < len(found):
        raise PackageError(f"{package.label} is damaged: two of its samples have one name; compile it again")
    return found


def _read(package: Package, section: Section) -> Sample:
    facts = section.facts
    if facts.get("form") != SAMPLE_FORM:
        raise PackageError(
            f"{package.label} holds a sample in the form {facts.get('form')!r:.20}, and this version of mace reads "
            f"form {SAMPLE_FORM}: update mace, or compile the model again"
        )
    try:
        return Sample(
            section.name,
            _tensors(package, section, facts["inputs"]),
            _tensors(package, section, facts["outputs"]),
            _text(facts["expected_by"]),
            _text(facts["source"]),
            {_text(key): allowed for key, allowed in facts["tolerances"].items()},
        )
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:  # UsageError is a ValueError
        raise PackageError(
            f"{package.label} is damaged: its sample '{section.name:.40}' is not one; compile it again"
        ) from error


def _tensors(package: Package, section: Section, rows: Any) -> dict[str, Tensor]:
    if not isinstance(rows, list):
        raise TypeError("the tensors of a sample are no list")
    content = package.array(section)
    found: dict[str, Tensor] = {}
    for name, label, shape, offset, nbytes in rows:
        if type(offset) is not int or type(nbytes) is not int or not 0 <= offset <= offset + nbytes <= content.size:
            raise ValueError("a tensor is not in its sample")
        if not isinstance(shape, list) or len(shape) > _MOST_DIMENSIONS:
            raise ValueError("a tensor has no shape")
        if any(type(size) is not int or not 0 <= size <= _LARGEST_SIZE for size in shape):
            raise ValueError("a tensor has no shape")
        if math.prod(size for size in shape if size) > _LARGEST_SIZE:
            raise ValueError("a tensor has no shape that memory could hold")
        dtype, payload = DType.from_label(_text(label)), content[offset : offset + nbytes]
        if dtype is DType.STRING:
            payload = _texts(payload, math.prod(shape))
        if _text(name) in found:
            raise ValueError("two tensors have one name")
        found[name] = Tensor(dtype, tuple(shape), payload)
    return found


def _texts(payload: Any, count: int) -> Any:
    texts = json.loads(payload.tobytes())
    if not isinstance(texts, list) or len(texts) != count:
        raise ValueError("a tensor of texts has others")
    array = np.empty(count, object)
    array[:] = [_text(text) for text in texts]
    return array


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} is no text")
    return value
