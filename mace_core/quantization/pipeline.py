"""Quantizing a model: from a file and data to a file and what is to be said about it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mace_core.errors import UsageError
from mace_core.frontend.load import Model
from mace_core.graph import Graph, Node
from mace_core.graph.copying import copy_graph
from mace_core.inputs.pictures import PictureOptions
from mace_core.quantization.activations import Calibrated
from mace_core.quantization.budget import FLOAT, parse_size
from mace_core.quantization.calibrate import Runner
from mace_core.quantization.configure import excluded_nodes
from mace_core.quantization.data import DEFAULT_SAMPLES, CalibrationData, Data, calibration_data
from mace_core.quantization.functions import import_function
from mace_core.quantization.outcome import Judged, Outcome
from mace_core.quantization.packed_rows import pack_quantized
from mace_core.quantization.prepare import float_graph
from mace_core.quantization.ranking import products_by_sensitivity
from mace_core.quantization.report.make import size_of
from mace_core.quantization.rounding import compensated_rounding, equalize_layers
from mace_core.quantization.search import Judge, Metric, search
from mace_core.quantization.settings import DATA_SCHEMES, SIZED_SCHEMES, Settings
from mace_core.quantization.weight_only import Round, nearest
from mace_core.quantization.weights_alone import quantize_without_data
from mace_core.quantization.within_size import REASON, named, quantize_within
from mace_core.scheduler.planning.specs import ValueSpec, optional_spec, spec_of
from mace_core.tensor.types import Shape

if TYPE_CHECKING:
    from mace_core.quantization.report import Report


class Quantizer:
    """A model in floating point, ready to be quantized.

        Quantizer("model.onnx").run("model.int8.onnx", data="photos")

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
        self._ranges: dict[str, tuple[float, float]] = {}
        self._graph = float_graph(model, self.settings.opset, self.settings.operators)
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
        accuracy: Metric | str | None = None,
        max_drop: float | None = None,
        max_size: str | None = None,
        ranges: Mapping[str, tuple[float, float]] | None = None,
        reports: bool = False,
    ) -> Outcome:
        """Quantize the model and write the result to ``out``; the file appears whole or not at all.

        Args:
            out: an ``.onnx`` file; weights beyond 1.5 GB go to a file beside it.
            data: to find the ranges of activations with.
            pictures: how pictures in ``data`` become tensors.
            shapes: of inputs with free dimensions, which pictures are made to fit.
            samples: at most so many are used.
            devices, options: where the model is run for calibration, as for `Session`.
            accuracy: a function, or ``module:function``, that gets a `Session` and returns a score; more is better.
            max_drop: by how much the score may drop; as few nodes as possible then stay in float.
            max_size: of the result, as "12MB", "1.5GiB" or "40%" of the model's: as much as fits stays in float (or
                has 8 bits where the scheme has 4), the most sensitive first.
            ranges: of values, by their names, found elsewhere; those of the others are found on the data, of which the
                first sample alone is looked at where there are no others.
            reports: whether the outcome has a report; layers are compared for it on the first samples of the data.

        Raises:
            UsageError, InputError: if the data or settings mean nothing, or do not fit the model.
            ModelError: if the result cannot be written.
        """
        from mace_core.frontend.onnx.export import save_onnx

        self._ranges = dict(ranges or {})
        target = Path(out)
        check_target(target, self._model, self._graph)
        if data is None and self.settings.needs_data:
            raise UsageError(
                f"the scheme {self.settings.scheme} needs calibration data: a folder, an .npz file or a function"
            )
        runner = Runner(devices, options)
        judge = self._judge(accuracy, max_drop, runner, max_size is not None)
        limit = self._limit(max_size)
        graph, _ = copy_graph(self._graph)
        excluded = excluded_nodes(graph, self.settings.exclude)
        stream = None
        if data is not None:
            stream = calibration_data(data, self.inputs, pictures=pictures, shapes=shapes, limit=samples)
        if limit is not None:
            found = self._within(graph, stream, runner, excluded, limit)
        elif stream is None:
            found = quantize_without_data(graph, self.settings, excluded)
        elif judge is not None and judge.max_drop is not None:
            found = self._mixed(graph, stream, runner, excluded, judge)
        else:
            found = self._with_data(graph, stream, runner, excluded)
        if judge is not None and found.judged is None:
            found.judged = Judged(judge.score(self._graph), judge.score(found.graph), [], [])
            judge.check(found.judged, max_size)
        stored, _ = copy_graph(found.graph)
        pack_quantized(stored)
        save_onnx(stored, target)
        if reports:
            found.report = self._report(found, target, stream, runner, judge)
        return found

    def _report(
        self, found: Outcome, target: Path, data: CalibrationData | None, runner: Runner, judge: Judge | None
    ) -> Report:
        from mace_core.quantization.report.make import make_report

        return make_report(
            found,
            self._graph if found.configuration is None else found.configuration.graph,
            model=Path(self._graph.source_path).name if self._graph.source_path else self._graph.name or "the model",
            output=target,
            size_before=size_of(self._model, self._graph),
            settings=self.settings.words(),
            form=self.settings.scheme,
            data=data,
            runner=runner,
            metric="" if judge is None else judge.label,
            allowed_drop=None if judge is None else judge.max_drop,
            is_calibrated=self.settings.scheme in DATA_SCHEMES,
        )

    def _with_data(self, graph: Graph, data: CalibrationData, runner: Runner, excluded: Mapping[Node, str]) -> Outcome:
        settings = self.settings
        if settings.scheme not in DATA_SCHEMES:
            if settings.rounding == "nearest":
                return quantize_without_data(graph, settings, excluded)
            rounding = compensated_rounding(graph, data, settings, runner, excluded)
            return quantize_without_data(graph, settings, excluded, rounding)
        return self._calibrated(graph, data, runner, excluded).quantize()

    def _calibrated(
        self, graph: Graph, data: CalibrationData, runner: Runner, excluded: Mapping[Node, str]
    ) -> Calibrated:
        if self.settings.equalizes:
            equalize_layers(graph, data, runner)
        return Calibrated(graph, data, self.settings, runner, excluded, self._ranges)

    def _mixed(
        self, graph: Graph, data: CalibrationData, runner: Runner, excluded: Mapping[Node, str], judge: Judge
    ) -> Outcome:
        """Quantized, but for as few nodes as the metric asks for."""
        before = judge.score(self._graph)
        calibrated = self._calibrated(graph, data, runner, excluded)
        ranked: list[tuple[str, float]] = []

        def rank() -> list[str]:
            ranked[:] = products_by_sensitivity(calibrated, data, runner)
            return [name for name, _ in ranked]

        found, found_judged = search(calibrated.quantize, judge, before, rank)
        found.judged, found.sensitivity = found_judged, ranked
        return found

    def _within(
        self, graph: Graph, data: CalibrationData | None, runner: Runner, excluded: Mapping[Node, str], limit: int
    ) -> Outcome:
        """Quantized, but for as much as fits into a size."""
        settings = self.settings
        if data is not None and settings.scheme in DATA_SCHEMES:
            calibrated = self._calibrated(graph, data, runner, excluded)

            def make(levels: Mapping[str, str]) -> Outcome:
                return calibrated.quantize(dict.fromkeys(named(levels, FLOAT), REASON))

        else:
            rounding: Round = nearest
            if data is not None and settings.rounding != "nearest":
                rounding = compensated_rounding(graph, data, settings, runner, excluded)
            given = {node.name: reason for node, reason in excluded.items()}

            def make(levels: Mapping[str, str]) -> Outcome:
                copy, _ = copy_graph(graph)
                reasons = {**dict.fromkeys(named(levels, FLOAT), REASON), **given}
                kept = {node: reasons[node.name] for node in copy.nodes if node.name in reasons}
                return quantize_without_data(copy, settings, kept, rounding, wider=named(levels, "int8"))

        return quantize_within(graph, make, limit, settings.scheme, data=data, runner=runner)

    def _limit(self, max_size: str | None) -> int | None:
        """
        Raises:
            UsageError: for a size that is none, or with a scheme whose weights have one form.
        """
        if max_size is None:
            return None
        if self.settings.scheme not in SIZED_SCHEMES:
            raise UsageError(f"a size to keep to is for the schemes {', '.join(SIZED_SCHEMES)}")
        return parse_size(max_size, size_of(self._model, self._graph))

    def _judge(
        self, accuracy: Metric | str | None, max_drop: float | None, runner: Runner, is_sized: bool
    ) -> Judge | None:
        """
        Raises:
            UsageError: for a drop without a metric, or with a scheme that has nothing to put back to float.
        """
        if accuracy is None:
            if max_drop is not None:
                raise UsageError("a drop to be kept to needs a metric: give the accuracy function too")
            return None
        if max_drop is not None and not is_sized and self.settings.scheme not in DATA_SCHEMES:
            raise UsageError(f"mixed precision is for the schemes {' and '.join(DATA_SCHEMES)}")
        label = accuracy if isinstance(accuracy, str) else getattr(accuracy, "__name__", type(accuracy).__name__)
        metric = import_function(accuracy, "--accuracy") if isinstance(accuracy, str) else accuracy
        return Judge(metric, label, runner, max_drop)


def quantize(model: Model, out: str | os.PathLike[str], *, settings: Settings | None = None, **given: Any) -> Outcome:
    """Quantize ``model`` and write the result to ``out``: a `Quantizer`, run with what is ``given``."""
    return Quantizer(model, settings).run(out, **given)


def check_target(target: Path, model: Any, graph: Graph) -> None:
    """
    Args:
        model, graph: what the result is made of.

    Raises:
        UsageError: if the result cannot be written there.
    """
    from mace_core.frontend.onnx.export import data_path_of

    if target.is_dir():
        raise UsageError(f"the output '{target}' is a folder; give the name of a file, like model.int8.onnx")
    if not target.parent.is_dir():
        raise UsageError(f"there is no folder '{target.parent}' for the output '{target.name}'")
    if isinstance(model, str | os.PathLike) and target.exists() and Path(model).exists() and target.samefile(model):
        raise UsageError(f"the output '{target}' is the model itself; give another name, so that the model is kept")
    beside = data_path_of(target).resolve()
    sources = (value.constant.source for value in graph.initializers.values() if value.constant is not None)
    if any(source is not None and Path(source.path).resolve() == beside for source in sources):
        raise UsageError(
            f"the weights of the output '{target}' would go to '{beside.name}', where those of the model are; give "
            "another name, so that the model is kept"
        )
