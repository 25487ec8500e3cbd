"""Single operators that the core computes itself, in numpy: draws, labels of texts, and probabilities of pairs.

This is native: no onnx.reference is involved.  Devices that claim such a node go first.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from mace_core.errors import ModelError
from mace_core.graph import Node, Value
from mace_core.operators.ml.coupling import COUPLING, coupled
from mace_core.operators.ml.label_table import LABEL_ENCODER, LabelTable, has_texts
from mace_core.operators.processing import CTC_TEXT
from mace_core.scheduler.context import RunContext
from mace_core.scheduler.host.control_flow import ControlFlow, MakeBody
from mace_core.scheduler.values import RuntimeValue
from mace_core.tensor import DType, Tensor

Step: TypeAlias = Callable[[Sequence[Any]], Sequence[RuntimeValue]]


class HostStep(ControlFlow):
    """One operator as a function of its inputs."""

    def __init__(
        self,
        node: Node,
        known: Mapping[Value, Tensor],
        make_body: MakeBody,
        opset_imports: Mapping[str, int],
    ) -> None:
        super().__init__(node, known, make_body)
        self._step = _STEPS[node.domain, node.op_type](node, opset_imports)

    def run(self, values: Sequence[RuntimeValue], context: RunContext) -> list[RuntimeValue]:
        self._check(context)
        return self._only_used(self._step([self._argument(index, values) for index in range(len(self.node.inputs))]))


def is_host_step(node: Node) -> bool:
    """Whether the core handles this node itself, by what it is."""
    if (node.domain, node.op_type) == LABEL_ENCODER:
        return has_texts(node)
    return (node.domain, node.op_type) in _STEPS


def _multinomial(node: Node, opset_imports: Mapping[str, int]) -> Step:
    """Draws class numbers with the probabilities whose logarithms, up to a constant, are given.

    Draws follow each other over the runs of a session; with a seed they begin in the same place in every session.
    """
    seed = node.attr("seed")
    generator = np.random.default_rng(None if seed is None else int(np.float32(seed).view(np.uint32)))
    lock = threading.Lock()
    count = int(node.attr("sample_size", 1))
    dtype = DType(int(node.attr("dtype", DType.INT32.value))).numpy

    def draw(given: Sequence[Any]) -> Sequence[RuntimeValue]:
        logarithms = given[0].astype(np.float64)
        rows, classes = logarithms.shape
        with lock:
            uniform = generator.random((rows, count))
        if rows and count and not classes:
            raise ModelError(f"node '{node.name}' (Multinomial): there is no class to draw")
        found = np.empty((rows, count), dtype)
        with np.errstate(invalid="ignore"):
            for row in range(rows):
                shares = np.exp(logarithms[row] - logarithms[row].max())
                ends = np.cumsum(shares)
                if not np.isfinite(ends[-1]):
                    raise ModelError(f"node '{node.name}' (Multinomial): row {row} holds no finite logarithm, or a NaN")
                # a class without a share has no width, and is never met
                found[row] = np.minimum(np.searchsorted(ends, uniform[row] * ends[-1], side="right"), classes - 1)
        return [found]

    return draw


def _label_encoder(node: Node, opset_imports: Mapping[str, int]) -> Step:
    table = LabelTable(node, opset_imports.get(node.domain, 1))
    return lambda given: [table.translate(given[0])]


def _coupling(node: Node, opset_imports: Mapping[str, int]) -> Step:
    slopes = np.asarray(node.attr("prob_a", ()), np.float32)
    offsets = np.asarray(node.attr("prob_b", ()), np.float32)
    classes = int(node.attr("classes", 0))
    pairs = classes * (classes - 1) // 2
    if classes < 2 or slopes.shape != (pairs,) or offsets.shape != (pairs,):
        raise ModelError(f"node '{node.name}' ({node.qualified_op}): it needs a slope and an offset for each pair")
    return lambda given: [coupled(given[0], slopes, offsets, classes)]


def _ctc_text(node: Node, opset_imports: Mapping[str, int]) -> Step:
    blank = int(node.attr("blank", 0))

    def read(given: Sequence[Any]) -> Sequence[RuntimeValue]:
        numbers, texts = given[0], given[1].tolist()
        if numbers.size and not 0 <= numbers.min() <= numbers.max() < len(texts):
            raise ModelError(f"node '{node.name}' (CtcText): a class number is beyond the {len(texts)} texts")
        found = np.empty(len(numbers), object)
        for row, line in enumerate(numbers):
            is_kept = line != blank
            is_kept[1:] &= line[1:] != line[:-1]
            found[row] = "".join(texts[number] for number in line[is_kept].tolist())
        return [found]

    return read


_STEPS: dict[tuple[str, str], Callable[[Node, Mapping[str, int]], Step]] = {
    ("", "Multinomial"): _multinomial,
    LABEL_ENCODER: _label_encoder,
    COUPLING: _coupling,
    CTC_TEXT: _ctc_text,
}
