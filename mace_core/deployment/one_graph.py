"""One graph of a deployment: quantized, wrapped, packed, compared."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mace_core.compilation import compile_model
from mace_core.deployment.files import Files
from mace_core.deployment.interface import Part, Place
from mace_core.deployment.judge import Judgement, expected_outputs, judge
from mace_core.deployment.litert import LiteRtModel
from mace_core.deployment.obfuscation import obfuscate
from mace_core.deployment.outcome import Converted
from mace_core.deployment.precision import Precision, precision_of, quantized
from mace_core.deployment.proof import proofs
from mace_core.deployment.range_files import Ranges, read_ranges, spelled, write_ranges
from mace_core.deployment.request import Request
from mace_core.deployment.runtimes import DEFAULT_THRESHOLDS, Chosen, choose
from mace_core.deployment.samples import Feeds, Samples, own_feeds, random_samples, read_output, samples_of
from mace_core.deployment.schema import GraphKeys
from mace_core.deployment.yaml_tree import ConfigError
from mace_core.errors import UnsupportedError, UsageError
from mace_core.frontend.load import load_model
from mace_core.graph import Graph
from mace_core.graph.copying import copy_graph
from mace_core.inputs.pictures import PictureOptions
from mace_core.package.samples import Sample
from mace_core.quantization import Settings
from mace_core.quantization.data import calibration_data
from mace_core.quantization.prepare import check_is_float
from mace_core.scheduler.planning.specs import ValueSpec
from mace_core.storing import store_model
from mace_core.tensor import TensorType

DEPLOYMENT_KEY = "mace.deployment"
"""Of the converted model's metadata: the runtime and options that the file gave it, as JSON."""

CALIBRATION_SAMPLES = 16
"""Of random numbers, where nobody gives samples."""

MOST_CALIBRATION_SAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What holds for all graphs of a deployment.

    Attributes:
        request: of the command line.
        abis, socs: what is built for.
        library: its name.
        files: where those that the file names are.
        place: of the graph in the file, for messages.
        at: the place of one of its keys.
    """

    request: Request
    abis: tuple[str, ...]
    socs: tuple[str, ...]
    library: str
    files: Files
    place: str
    at: Place


class GraphWork:
    """Converts one graph."""

    def __init__(
        self,
        around: Surroundings,
        model: str,
        graph_name: str,
        stem: str,
        source: Path,
        part: Part,
        keys: GraphKeys,
        *,
        obfuscates: bool = False,
        peer: LiteRtModel | None = None,
    ) -> None:
        """
        Args:
            model, graph_name: as the file calls them.
            stem: of the names of the files that are written.
            source: the model file.
            part: what of it is converted.
            obfuscates: names inside are to tell nothing.
            peer: what computes what is expected, where it can.
        """
        self._around = around
        self._request = around.request
        self._part = part
        self._keys = keys
        self._stem = stem
        self._obfuscates = obfuscates
        self._peer = peer
        self._ranges: Ranges | None = None
        package = Path("model") / f"{stem}.mace"
        self.package = package
        self.done = Converted(model, graph_name, source, package, source_bytes=source.stat().st_size)

    def run(self, staging: Path) -> Converted:
        """Write the package, and what belongs to it, to a folder.

        Raises:
            ConfigError: for samples and ranges that cannot be read, or do not fit.
            MaceError: if the model cannot be compiled or written.
        """
        done, runtime = self.done, self._keys.runtime or "cpu"
        done.notes += self._part.notes
        samples = samples_of(
            self._keys, self._part.inputs, self._around.files, self._around.at("validation_inputs_data")
        )
        done.notes += samples.notes
        self._ranges = self._given_ranges()
        reference = self._part.wrapped(copy_graph(self._part.graph)[0])
        quantize = "none" if self._request.gather_ranges else self._request.quantize
        precision = precision_of(self._keys, quantize, self._request.algorithm, self._is_quantized())
        done.notes += precision.notes
        done.precision = precision.words
        if self._request.gather_ranges:
            self._gather(samples, staging)
        final = self._precise(precision, samples, staging)
        if self._obfuscates:
            obfuscate(final)
        final.name = done.model
        final.metadata[DEPLOYMENT_KEY] = json.dumps(
            {"runtime": runtime, "options": precision.options, "library": self._around.library}
        )
        done.nodes = len(final.nodes)
        chosen = choose(runtime, self._around.socs, self._around.abis, quantized=precision.is_quantized)
        done.notes += chosen.notes
        proof = proofs(final, samples.feeds, samples.label, precision, self._request.samples)
        done.samples = len(proof)
        self._package(staging / self.package, final, precision, chosen, proof)
        if self._request.draw is not None:
            done.page = self.package.with_suffix(".html")
            self._request.draw(staging / self.package, staging / done.page)
        if self._request.validate:
            done.judgement = self._judge(staging / self.package, reference, chosen, precision, samples)
        return done

    def _is_quantized(self) -> bool:
        """Whether the model that was given computes in integers already."""
        try:
            check_is_float(self._part.graph)
        except UsageError:
            return True
        return False

    # --- precision ----------------------------------------------------------------------------------------------------

    def _precise(self, precision: Precision, samples: Samples, staging: Path) -> Graph:
        if precision.settings is None:
            return self._part.wrapped(copy_graph(self._part.graph)[0])
        feeds, ranges = None, None
        if precision.needs_data:
            ranges = self._ranges
            feeds = self._calibration(samples, has_ranges=ranges is not None)
        target = staging / f"_{self._stem}.onnx"
        outcome = quantized(self._part.graph, precision.settings, feeds, target, self._around.place, ranges)
        self.done.quantized = len(outcome.nodes)
        self.done.notes += outcome.notes
        if ranges is not None and outcome.observers:
            names = ", ".join([f"'{name}'" for name in outcome.observers][:3])
            self.done.warnings.append(
                f"{len(outcome.observers)} tensors have no range in the file ({names}, …); theirs are those of "
                f"{samples.label}"
            )
        graph = load_model(target, mmap=False)
        graph.metadata = dict(self._part.graph.metadata)
        for left in staging.glob(f"_{self._stem}.onnx*"):
            left.unlink()
        return self._part.wrapped(graph)

    def _given_ranges(self) -> Ranges | None:
        text = self._keys.quantize_range_file
        if not text:
            return None
        return spelled(
            read_ranges(self._around.files.find(text, self._around.at("quantize_range_file"), "quantize_range_file"))
        )

    def _calibration(self, samples: Samples, *, has_ranges: bool) -> list[Feeds]:
        """The samples that ranges are found on, as the tensors of the model itself have them."""
        if self._request.calibration:
            return list(own_feeds(self._given_samples(), self._part.inputs))
        if len(self._part.fed) < len(self._part.inputs):
            self.done.warnings.append(
                "each sample is the first run of a stream: ranges are those of state as it begins, and later runs may "
                "leave them"
            )
        if samples.is_random and not has_ranges:
            samples = random_samples(self._keys, self._part.inputs, CALIBRATION_SAMPLES, self._around.place, seed=1)
            self.done.warnings.append(
                f"ranges are those of {samples.label}, since no data are given: name validation_inputs_data, or "
                "--calibration-data FOLDER, with samples like those that the model will see"
            )
        return list(own_feeds(samples.feeds, self._part.inputs))

    def _given_samples(self) -> Iterator[Feeds]:
        ports = self._part.inputs
        specs = [ValueSpec(port.name, port.dtype, port.shape, TensorType(port.dtype, port.shape)) for port in ports]
        data = calibration_data(
            self._request.calibration, specs, pictures=self._pictures(), limit=MOST_CALIBRATION_SAMPLES
        )
        return (feeds for _, feeds in data)

    def _pictures(self) -> PictureOptions:
        """Pixels spread over the range of the input."""
        low, high = self._keys.ranges[0]
        scale = (high - low) / 255
        return PictureOptions("", mean=(-low / scale,), scale=(scale,))

    def _gather(self, samples: Samples, staging: Path) -> None:
        """Write the ranges of tensors, in MACE's form."""
        target = staging / f"_{self._stem}.onnx"
        feeds = self._calibration(samples, has_ranges=False)
        outcome = quantized(
            self._part.graph, Settings("int8", self._request.algorithm), feeds, target, self._around.place
        )
        for left in staging.glob(f"_{self._stem}.onnx*"):
            left.unlink()
        found = {}
        for name, observer in outcome.observers.items():
            low, high = observer.range()
            found[name] = (float(low), float(high))
        self.done.ranges = Path("model") / f"{self._stem}.range"
        write_ranges(staging / self.done.ranges, found)

    # --- files and results --------------------------------------------------------------------------------------------

    def _package(self, out: Path, graph: Graph, precision: Precision, chosen: Chosen, proof: list[Sample]) -> None:
        """Write the package, with what devices compile; one that can compile nothing of it is left out and told."""
        optimize, done, devices = self._request.optimize, self.done, list(chosen.compiled)
        while devices:
            try:
                made = compile_model(
                    copy_graph(graph)[0],
                    out,
                    devices=devices,
                    options=_for_devices(precision.options, devices),
                    optimize=optimize,
                    weights=precision.stored,
                    samples=proof,
                    sign_with=self._request.sign_with,
                )
            except UnsupportedError as error:
                failed = [name for name in devices if error.device is None or _is_of(error.device, name)] or devices
                devices = [name for name in devices if name not in failed]
                done.warnings.append(f"nothing is compiled for {', '.join(failed)}: {error}")
                continue
            done.nbytes = made.nbytes
            done.compiled = {
                target.device: f"{target.compiled} of {target.nodes} nodes in {target.subgraphs} subgraphs"
                for target in made.targets
            }
            return
        done.nbytes = store_model(
            graph,
            out,
            weights=precision.stored,
            optimize=optimize,
            samples=proof,
            sign_with=self._request.sign_with,
        )

    def _judge(
        self, package: Path, reference: Graph, chosen: Chosen, precision: Precision, samples: Samples
    ) -> Judgement:
        expected: Sequence[Mapping[str, Any]]
        if self._keys.validation_outputs_data:
            expected, against = self._given_outputs(len(samples.feeds)), "validation_outputs_data"
        else:
            expected, against = self._computed_outputs(reference, samples)
        thresholds = {**DEFAULT_THRESHOLDS, **self._keys.validation_threshold}
        found = Judgement(against, samples.label)
        found.verdicts = judge(package, chosen.checked, thresholds, samples.feeds, expected, precision.options)
        for device, count in {each.device: each.elsewhere for each in found.verdicts if each.elsewhere}.items():
            self.done.warnings.append(f"{count} nodes did not run on {device}: `mace explain` says why")
        return found

    def _computed_outputs(self, reference: Graph, samples: Samples) -> tuple[Sequence[Mapping[str, Any]], str]:
        if self._peer is not None:
            found = self._peer.run(samples.feeds, self._part.inputs, self._part.outputs)
            if found is not None:
                return found, "LiteRT"
        return expected_outputs(reference, samples.feeds)

    def _given_outputs(self, count: int) -> list[Mapping[str, Any]]:
        """What the file says is right, for each sample.

        Raises:
            ConfigError: if there is not a file for each output of each sample, or one cannot be read.
        """
        place = self._around.at("validation_outputs_data")
        ports, names = self._part.given, self._keys.validation_outputs_data
        if not self._keys.validation_inputs_data:
            raise ConfigError(f"{place}: validation_outputs_data is given, and validation_inputs_data is not")
        if len(names) != count * len(ports):
            raise ConfigError(
                f"{place}: validation_outputs_data names {len(names)} files, and {count} samples have "
                f"{count * len(ports)} outputs"
            )
        paths = [self._around.files.find(name, place, "validation_outputs_data", is_data=True) for name in names]
        found: list[Mapping[str, Any]] = []
        for first in range(0, len(paths), len(ports)):
            group = zip(ports, paths[first : first + len(ports)], strict=True)
            found.append({port.name: read_output(path, port, place) for port, path in group})
        return found


def _for_devices(
    options: Mapping[str, Mapping[str, object]], devices: Sequence[str]
) -> dict[str, Mapping[str, object]] | None:
    """The options of those devices that are compiled for: others would be refused."""
    providers = {device.partition(":")[0] for device in devices}
    return {name: each for name, each in options.items() if name in providers} or None


def _is_of(device: str, name: str) -> bool:
    """Whether ``name``, with or without an id, is this device."""
    return name in (device, device.partition(":")[0])
