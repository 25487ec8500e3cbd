"""Quantizing a model: from a file and data to a file and what is to be said about it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy.typing as npt

from mace_core.errors import UsageError
from mace_core.frontend.load import Model
from mace_core.graph import Graph, Value
from mace_core.inputs.pictures import PictureOptions
from mace_core.operators.resolver import resolve
from mace_core.quantization.calibrate import Runner, sample_types
from mace_core.quantization.configure import Configuration, configure, excluded_nodes
from mace_core.quantization.data import DEFAULT_SAMPLES, CalibrationData, Data, calibration_data
from mace_core.quantization.encodings import encoding_for_range
from mace_core.quantization.prepare import float_graph, label_of
from mace_core.quantization.ranges import HistogramObserver, make_observer
from mace_core.quantization.settings import Settings
from mace_core.quantization.write_qdq import WeightRule, Written, write_qdq
from mace_core.scheduler.planning.specs import ValueSpec, optional_spec, spec_of
from mace_core.tensor import QuantEncoding
from mace_core.tensor.types import Shape


@dataclass(slots=True)
class Quantized:
    """A quantized graph and how it came about.

    Attributes:
        graph: what is written.
        samples: of calibration data.
        configuration: what was quantized.
        encodings: of computed values.
        observers: what was seen of each.
        written: integers of weights, and what was folded.
    """

    graph: Graph
    samples: int = 0
    configuration: Configuration | None = None
    encodings: dict[Value, QuantEncoding] = field(default_factory=dict)
    observers: dict[Value, HistogramObserver] = field(default_factory=dict)
    written: Written | None = None


class Quantizer:
    """A model in floating point, ready to be quantized.

        report = Quantizer("model.onnx").run("model.int8.onnx", data="photos")

    Attributes:
        settings: the scheme and its details.
        inputs: of the model: name, element type and shape of each.
    """

    def __init__(self, model: Model, settings: Settings | None = None) -> None:
        """
        Args:
            model: a path, bytes, an ``onnx.ModelProto`` or a ``Graph`` (taken over).
            settings: 8 bits per channel by default.

        Raises:
            ModelError: if the model cannot be read.
            UsageError: if it is quantized already.
        """
        self.settings = settings or Settings()
        self._model = model
        self._graph = float_graph(model, self.settings.opset)
        self.inputs: tuple[ValueSpec, ...] = (
            *(spec_of(value) for value in self._graph.inputs),
            *(optional_spec(name, type) for name, type in self._graph.defaults.items()),
        )

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
    ) -> Quantized:
        """Quantize the model and write the result to ``out``; the file appears whole or not at all.

        Args:
            out: an ``.onnx`` file; weights beyond 1.5 GB go to a file beside it.
            data: to find the ranges of activations with.
            pictures: how pictures in ``data`` become tensors.
            shapes: of inputs with free dimensions, which pictures are made to fit.
            samples: at most so many are used.
            devices, options: where the model is run for calibration, as for `Session`.

        Raises:
            UsageError, InputError: if the data or settings mean nothing, or do not fit the model.
            ModelError: if the result cannot be written.
        """
        from mace_core.frontend.onnx.export import save_onnx

        target = Path(out)
        check_target(target, self._model)
        if data is None:
            raise UsageError(
                f"the scheme {self.settings.scheme} needs calibration data: a folder, an .npz file or a function"
            )
        stream = calibration_data(data, self.inputs, pictures=pictures, shapes=shapes, limit=samples)
        found = _quantize_activations(self._graph, stream, self.settings, Runner(devices, options))
        save_onnx(found.graph, target)
        return found


def quantize(model: Model, out: str | os.PathLike[str], *, settings: Settings | None = None, **given: Any) -> Quantized:
    """Quantize ``model`` and write the result to ``out``: a `Quantizer`, run with what is ``given``."""
    return Quantizer(model, settings).run(out, **given)


def check_target(target: Path, model: Any) -> None:
    """
    Raises:
        UsageError: if the result cannot be written there.
    """
    if target.is_dir():
        raise UsageError(f"the output '{target}' is a folder; give the name of a file, like model.int8.onnx")
    if not target.parent.is_dir():
        raise UsageError(f"there is no folder '{target.parent}' for the output '{target.name}'")
    if isinstance(model, str | os.PathLike) and target.exists() and Path(model).exists() and target.samefile(model):
        raise UsageError(f"the output '{target}' is the model itself; give another name, so that the model is kept")


def _quantize_activations(graph: Graph, data: CalibrationData, settings: Settings, runner: Runner) -> Quantized:
    _, first = next(iter(data))
    resolution = resolve(graph, sample_types(graph, first))
    configuration = configure(
        graph,
        resolution.types,
        excluded=excluded_nodes(graph, settings.exclude),
        shape_values=resolution.known.keys(),
    )
    if not configuration.nodes:
        reasons = list(dict.fromkeys(configuration.floats.values()))
        raise UsageError(f"{label_of(graph)} has no node to quantize: {'; '.join(reasons[:3])}")
    observers = {
        value: make_observer(settings.algorithm, value.name, settings.activation_grid, percentile=settings.percentile)
        for value in configuration.values
    }
    by_name = {value.name: observer for value, observer in observers.items()}

    def watch(values: Mapping[str, npt.NDArray[Any]]) -> None:
        for name, array in values.items():
            by_name[name].update(array)

    count = runner.observe(graph, observers, data, watch, types=resolution.types)
    encodings = shared_encodings(configuration, observers, settings)
    written = write_qdq(configuration, encodings, WeightRule(settings.weight_grid, settings.is_per_channel))
    return Quantized(graph, count, configuration, encodings, observers, written)


def shared_encodings(
    configuration: Configuration, observers: Mapping[Value, HistogramObserver], settings: Settings
) -> dict[Value, QuantEncoding]:
    """The encoding of each value: of the widest range among those that share it."""
    encodings: dict[Value, QuantEncoding] = {}
    for group in configuration.groups().values():
        ranges = []
        for value in group:
            if (fixed := configuration.fixed.get(value)) is not None:
                ranges.append(fixed)
            else:
                low, high = observers[value].range()
                ranges.append((float(low), float(high)))
        lows, highs = zip(*ranges, strict=True)
        encoding = encoding_for_range(min(lows), max(highs), settings.activation_grid)
        encodings |= dict.fromkeys(group, encoding)
    return encodings
