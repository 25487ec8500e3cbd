"""Pruning a model: from a file, and data if there are any, to a file and what is to be said about it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mace_core.errors import UsageError, shorten
from mace_core.frontend.load import Model
from mace_core.graph import Graph, Node
from mace_core.host.blas import blas_threads
from mace_core.inputs.pictures import PictureOptions
from mace_core.operators.resolver import resolve
from mace_core.progress import report
from mace_core.quantization.calibrate import Runner, sample_types
from mace_core.quantization.configure import excluded_nodes
from mace_core.quantization.data import DEFAULT_SAMPLES, CalibrationData, Data, calibration_data
from mace_core.quantization.editing import Editor
from mace_core.quantization.pipeline import check_target
from mace_core.quantization.prepare import float_graph, inferred_types, label_of
from mace_core.quantization.weights.gram import Gram, in_passes
from mace_core.scheduler.planning.specs import ValueSpec, optional_spec, spec_of
from mace_core.sparsity.compensate import prune_by_magnitude, prune_with_data, relative_error
from mace_core.sparsity.layers import Layer, first_and_last, layers_of
from mace_core.sparsity.patterns import Pattern
from mace_core.sparsity.storage import store_packed
from mace_core.tensor.types import Shape

Array: TypeAlias = npt.NDArray[Any]

FEWEST_GROUPS = 4
"""A layer with fewer groups of inputs than this has hardly anything to choose from."""

OLDEST_OPSET = 0
"""No operator is written that an older opset lacks."""

THIN = 100
"""Fewer samples than this say little about the inputs of a layer."""


@dataclass(frozen=True, slots=True)
class PrunedLayer:
    """What was done to a layer.

    Attributes:
        name, op_type: of its node.
        shape: of its weights.
        pattern: what its weights keep to.
        magnitude: how much of the sum of squared weights stayed, before anything was made up for.
        error: root of the squared error of its results on the data, as a share of them; None without data.
        error_by_magnitude: the same without making up for it.
    """

    name: str
    op_type: str
    shape: tuple[int, ...]
    pattern: Pattern
    magnitude: float
    error: float | None = None
    error_by_magnitude: float | None = None


@dataclass(slots=True)
class Pruning:
    """What pruning made of a model.

    Attributes:
        graph: what was written.
        layers: those that were pruned.
        dense: why others were not, by the name of the node.
        samples: of calibration data.
        bytes_before, bytes_after: of all constants.
        notes: what else the user should know.
    """

    graph: Graph
    layers: list[PrunedLayer] = field(default_factory=list)
    dense: dict[str, str] = field(default_factory=dict)
    samples: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    notes: list[str] = field(default_factory=list)


class Pruner:
    """A model in floating point, ready to be pruned.

        Pruner("model.onnx").run("model.2of4.onnx", data="photos")

    Attributes:
        pattern: which weights may stay.
        inputs: of the model: name, element type and shape of each.
    """

    def __init__(
        self, model: Model, pattern: Pattern | None = None, *, exclude: Sequence[str] = (), all_layers: bool = False
    ) -> None:
        """
        Args:
            model: a path, bytes, an ``onnx.ModelProto`` or a ``Graph`` (taken over).
            pattern: 2:4, shared by 32 outputs, by default.
            exclude: nodes that stay dense, by name or operator type (``*`` and ``?`` allowed).
            all_layers: prune the first and the last layer, too.

        Raises:
            ModelError: if the model cannot be read.
            UsageError: if it is quantized, if an exclusion names nothing, or if there is nothing to prune.
        """
        self.pattern = pattern or Pattern()
        self._model = model
        self._graph = float_graph(model, OLDEST_OPSET)
        self.inputs: tuple[ValueSpec, ...] = (
            *(spec_of(value) for value in self._graph.inputs),
            *(optional_spec(name, type) for name, type in self._graph.defaults.items()),
        )
        self._layers, self._dense = self._chosen(excluded_nodes(self._graph, exclude), all_layers)

    def run(
        self,
        out: str | os.PathLike[str],
        *,
        data: Data | None = None,
        pictures: PictureOptions | None = None,
        shapes: Mapping[str, Shape] | None = None,
        samples: int = DEFAULT_SAMPLES,
        devices: Sequence[str] | None = None,
        options: Mapping[str, Mapping[str, object]] | None = None,
        packed: bool = True,
    ) -> Pruning:
        """Prune the model and write the result to ``out``; the file appears whole or not at all.

        Args:
            out: an ``.onnx`` file; weights beyond 1.5 GB go to a file beside it.
            data: with it, the weights that stay make up for those that do not.
            pictures: how pictures in ``data`` become tensors.
            shapes: of inputs with free dimensions, which pictures are made to fit.
            samples: at most so many are used.
            devices, options: where the model is run, as for `Session`.
            packed: store what is not zero, and nodes that put the weights together; else the weights with their zeros.

        Raises:
            UsageError, InputError: if the data mean nothing, or do not fit the model.
            ModelError: if the result cannot be written.
        """
        from mace_core.frontend.onnx.export import save_onnx

        target = Path(out)
        check_target(target, self._model, self._graph)
        found = Pruning(self._graph, dense=dict(self._dense), bytes_before=_constant_bytes(self._graph))
        pruned: dict[Node, Array] = {}
        if data is None:
            for number, layer in enumerate(self._layers):
                report("pruning", number, len(self._layers))
                pruned[layer.node] = self._by_magnitude(layer, found)
        else:
            stream = calibration_data(data, self.inputs, pictures=pictures, shapes=shapes, limit=samples)
            self._with_data(stream, Runner(devices, options), pruned, found)
        self._store(pruned, packed)
        found.bytes_after = _constant_bytes(self._graph)
        save_onnx(self._graph, target)
        return found

    def _chosen(self, excluded: Mapping[Node, str], all_layers: bool) -> tuple[list[Layer], dict[str, str]]:
        """The layers to prune, and why others stay as they are."""
        layers = layers_of(self._graph)
        first, last = first_and_last(self._graph, layers)
        chosen, dense = [], {}
        for layer in layers:
            reason = ""
            if layer.node in excluded:
                reason = excluded[layer.node]
            elif layer.groups > 1 and layer.inputs == 1:
                reason = "depthwise"
            elif layer.inputs < FEWEST_GROUPS * self.pattern.group:
                reason = f"only {layer.inputs} input channels"
            elif layer.outputs < self.pattern.shared:
                reason = f"only {layer.outputs} output channels, fewer than share a pattern"
            elif not all_layers and layer.node in last:
                reason = "the last layer"
            elif not all_layers and layer.node in first and layer.node.op_type == "Conv":
                reason = "the first layer"
            if reason:
                dense[layer.node.name] = reason
                continue
            if not np.isfinite(layer.weights).all():
                raise UsageError(
                    f"a weight of node '{shorten(layer.node.name)}' is NaN or infinite; mend the model, "
                    "or exclude the node"
                )
            chosen.append(layer)
        if not chosen:
            reasons = list(dict.fromkeys(dense.values())) or ["it has no Conv, Gemm or MatMul with constant weights"]
            raise UsageError(
                f"{label_of(self._graph)} has no layer to prune to {self.pattern}: {'; '.join(reasons[:3])}"
            )
        return chosen, dense

    def _by_magnitude(self, layer: Layer, found: Pruning) -> Array:
        pattern, matrices = layer.pattern(self.pattern), layer.matrices()
        result = np.stack([prune_by_magnitude(matrix, pattern, layer.taps) for matrix in matrices])
        found.layers.append(_described(layer, pattern, _energy(result, matrices)))
        return result

    def _with_data(self, data: CalibrationData, runner: Runner, pruned: dict[Node, Array], found: Pruning) -> None:
        _, first = next(iter(data))
        types = {**inferred_types(self._graph), **resolve(self._graph, sample_types(self._graph, first)).types}
        done = 0
        for part in in_passes(self._layers):
            grams = {layer.node: layer.gram() for layer in part}

            def watch(values: Mapping[str, Array], part: list[Layer] = part, grams: dict[Node, Gram] = grams) -> None:
                for layer in part:
                    grams[layer.node].update(layer.rows(np.asarray(values[layer.x.name])))

            inputs = dict.fromkeys(layer.x for layer in part)
            with blas_threads(max(layer.taps * layer.inputs for layer in part)):
                found.samples = runner.observe(self._graph, inputs, data, watch, types=types, what="looking at inputs")
            for layer in part:
                report("pruning", done, len(self._layers))
                done += 1
                with blas_threads(layer.taps * layer.inputs):
                    pruned[layer.node] = self._compensated(layer, grams.pop(layer.node), found)
        if found.samples < THIN:
            found.notes.append(
                f"{found.samples} samples are few: 100 to 1,000 tell more of what the weights that stay make up for"
            )

    def _compensated(self, layer: Layer, gram: Gram, found: Pruning) -> Array:
        pattern, matrices = layer.pattern(self.pattern), layer.matrices()
        plain = [prune_by_magnitude(matrix, pattern, layer.taps) for matrix in matrices]
        results = [
            prune_with_data(matrix, moments, pattern, layer.taps)
            for matrix, moments in zip(matrices, gram.matrices, strict=True)
        ]

        def error(candidates: list[Array]) -> float:
            pairs = zip(candidates, matrices, gram.matrices, strict=True)
            return float(np.mean([relative_error(*three) for three in pairs]))

        energy = _energy(np.stack(plain), matrices)
        found.layers.append(_described(layer, pattern, energy, error(results), error(plain)))
        return np.stack(results)

    def _store(self, pruned: dict[Node, Array], packed: bool) -> None:
        editor = Editor(self._graph)
        by_node = {layer.node: layer for layer in self._layers}
        nodes: list[Node] = []
        for node in self._graph.nodes:
            if node in pruned:
                layer, weights = by_node[node], pruned.pop(node)
                if packed and layer.groups == 1:
                    nodes += store_packed(editor, layer, weights[0], layer.pattern(self.pattern))
                else:
                    editor.replace_input_constant(node, 1, layer.stored(weights))
            nodes.append(node)
        self._graph.nodes = nodes
        editor.sweep()


def prune(model: Model, out: str | os.PathLike[str], *, pattern: Pattern | None = None, **given: Any) -> Pruning:
    """Prune ``model`` and write the result to ``out``: a `Pruner`, run with what is ``given``."""
    return Pruner(model, pattern).run(out, **given)


def _described(
    layer: Layer, pattern: Pattern, magnitude: float, error: float | None = None, plain: float | None = None
) -> PrunedLayer:
    node = layer.node
    return PrunedLayer(node.name, node.op_type, layer.weights.shape, pattern, magnitude, error, plain)


def _energy(pruned: Array, weights: Array) -> float:
    whole = float(np.square(weights, dtype=np.float64).sum())
    return float(np.square(pruned, dtype=np.float64).sum()) / whole if whole else 1.0


def _constant_bytes(graph: Graph) -> int:
    return sum(value.constant.nbytes for value in graph.initializers.values() if value.constant is not None)
