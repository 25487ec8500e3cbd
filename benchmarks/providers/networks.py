"""The networks: models, inputs, and what makes two results the same."""

from __future__ import annotations

import functools
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from benchmarks.accuracy.text_lines import decode, line
from benchmarks.providers.boxes import find_boxes, least_overlap
from benchmarks.providers.places import Place
from mace_core.testing.models import (
    PP_OCR_DET,
    PP_OCR_REC,
    find_packaged_model,
    fsrcnn,
    mobilenet_v2,
    resnet50,
    sample_image,
)

Array = npt.NDArray[Any]

PICTURE = (1, 3, 224, 224)
LEAST_OVERLAP = 0.8
"""Of two boxes that count as the same: those of small text are ten pixels high, and a row more takes a tenth."""
STEPS_APART = 0.03
"""Of the range, of quantized networks: over 53 layers, in which a number in the middle between two steps may be rounded
to either.  The limit of each layer by itself is one step."""

_PAGE = Path(__file__).parents[2] / "examples" / "ocr" / "page.png"


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a device's results compare with the CPU provider's.

    Attributes:
        of_range: the largest difference, as a part of the range of the expected result.
        agrees: whether that is close enough, by the measure of the network.
        also: what else was compared, for people.
    """

    of_range: float
    agrees: bool
    also: str = ""


class Network(ABC):
    """A network and its measure."""

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def model(self) -> Path | onnx.ModelProto:
        """The model.

        Raises:
            UsageError: if it is in a package that is not installed.
        """

    @abstractmethod
    def inputs(self) -> Sequence[Array]:
        """For one run each."""

    def compare(self, found: Sequence[Array], expected: Sequence[Array], at: Place) -> Verdict:
        """By the largest difference, which is to be at most the tolerance of the place."""
        worst = of_range(found, expected)
        return Verdict(worst, worst <= at.tolerance)


def of_range(found: Sequence[Array], expected: Sequence[Array]) -> float:
    """The largest difference of a pair of results, as a part of the range of the expected one (of 1 where that is
    constant); NaN if any is."""
    return float(np.max([np.abs(a - b).max() / (np.ptp(b) or 1.0) for a, b in zip(found, expected, strict=True)]))


class Seeded(Network):
    """A well-known network with seeded weights."""

    def __init__(self, name: str, make: Any, shape: tuple[int, ...], count: int = 1) -> None:
        super().__init__(name)
        self.make, self.shape, self.count = make, shape, count

    def model(self) -> Path | onnx.ModelProto:
        made: onnx.ModelProto = self.make()
        return made

    def inputs(self) -> Sequence[Array]:
        return [sample_image(self.shape, 9 + seed) for seed in range(self.count)]


class Quantized(Seeded):
    """The same in QDQ form, int8 with a scale for each channel of the weights, as `mace quantize` writes it."""

    def model(self) -> Path:
        return _quantized(self.make, self.shape)

    def compare(self, found: Sequence[Array], expected: Sequence[Array], at: Place) -> Verdict:
        from mace_core.numerics import validate

        largest = max(float(np.abs(a - b).max()) for a, b in zip(found, expected, strict=True))
        steps_apart = f"{largest / output_step(self.model()):.0f} steps"
        total = of_range(found, expected)
        if not at.by_layers:
            return Verdict(total, total <= STEPS_APART, steps_apart)
        feeds = {"x": self.inputs()[0]}
        judged = validate(self.model(), feeds, devices=[at.device], strict=True, against="cpu", layers=True)
        steps = [layer.steps for layer in judged.layers if layer.steps is not None]
        worst = max(step.worst for step in steps)
        also = f"{steps_apart}; each of {len(steps)} layers by itself at most {worst}"
        return Verdict(total, total <= STEPS_APART and judged.is_good, also)


@functools.cache
def _quantized(make: Any, shape: tuple[int, ...]) -> Path:
    from mace_core.quantization import quantize

    folder = Path(tempfile.mkdtemp(prefix="mace-providers-"))
    quantize(make(), folder / "model.onnx", data=[{"x": sample_image(shape, seed)} for seed in range(3)])
    return folder / "model.onnx"


def output_step(model: Path) -> float:
    """One step of the quantization of the result."""
    graph = onnx.load(model).graph
    last = next(node for node in graph.node if graph.output[0].name in node.output)
    (scale,) = (item for item in graph.initializer if item.name == last.input[1])
    return float(onnx.numpy_helper.to_array(scale))


class Detection(Network):
    """Judged by the boxes: as many, each over one of the CPU provider's."""

    def __init__(self, name: str, sizes: Sequence[tuple[int, int]]) -> None:
        super().__init__(name)
        self.sizes = sizes

    def model(self) -> Path:
        return find_packaged_model(*PP_OCR_DET)

    def inputs(self) -> Sequence[Array]:
        return [page(*size) for size in self.sizes]

    def compare(self, found: Sequence[Array], expected: Sequence[Array], at: Place) -> Verdict:
        pairs = [(find_boxes(a), find_boxes(b)) for a, b in zip(found, expected, strict=True)]
        counts = ", ".join(f"{len(ours)} of {len(theirs)}" for ours, theirs in pairs)
        least = min(least_overlap(*pair) for pair in pairs)
        agrees = least >= LEAST_OVERLAP and all(len(theirs) for _, theirs in pairs)
        return Verdict(of_range(found, expected), agrees, f"{counts} boxes; overlap at least {least:.3f}")


def page(height: int, width: int) -> Array:
    """The sample page of the OCR example in another size, as the detector wants it: (1, 3, height, width)."""
    from PIL import Image

    with Image.open(_PAGE) as image:
        scaled = np.asarray(image.convert("RGB").resize((width, height)), np.float32) / 255
    normalized = (scaled - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    return np.ascontiguousarray(normalized.transpose(2, 0, 1)[None], np.float32)


class Recognition(Network):
    """Judged by the text."""

    def __init__(self, name: str, lines: Sequence[int]) -> None:
        super().__init__(name)
        self.lines = lines

    def model(self) -> Path:
        return find_packaged_model(*PP_OCR_REC)

    def inputs(self) -> Sequence[Array]:
        return [line(number)[0] for number in self.lines]

    def compare(self, found: Sequence[Array], expected: Sequence[Array], at: Place) -> Verdict:
        # The margin of a picture is read as a space or not by a hair, and such a space is of no use.
        pairs = [(decode(a).strip(), decode(b).strip()) for a, b in zip(found, expected, strict=True)]
        same = sum(ours == theirs for ours, theirs in pairs)
        agrees = same == len(pairs) and all(theirs for _, theirs in pairs)
        steps = sum(a.shape[1] for a in expected)
        other = sum(int((a.argmax(-1) != b.argmax(-1)).sum()) for a, b in zip(found, expected, strict=True))
        also = f"{same} of {len(pairs)} lines read alike; {other} of {steps} steps have another likeliest class"
        return Verdict(of_range(found, expected), agrees, also)


NETWORKS: tuple[Network, ...] = (
    Seeded("mobilenet_v2", mobilenet_v2, PICTURE, 2),
    Quantized("mobilenet_v2 int8", mobilenet_v2, PICTURE, 2),
    Seeded("resnet50", resnet50, PICTURE),
    Detection("PP-OCRv4 det", [(320, 480), (640, 960)]),
    Recognition("PP-OCRv4 rec", range(6)),
    Seeded("FSRCNN", fsrcnn, (1, 1, 720, 1280)),
)
