"""Running a model as MACE's ``mace_run`` does: raw files in, raw files out, and how long everything took."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mace_core.deployment.flag_tensors import Tensor, chosen_specs, input_tensor, output_tensor
from mace_core.deployment.gflags import Flags
from mace_core.deployment.mace_run_flags import FLAGS
from mace_core.deployment.one_graph import DEPLOYMENT_KEY
from mace_core.deployment.precision import CARRIED_OPTIONS
from mace_core.deployment.runtimes import devices_of
from mace_core.deployment.samples import read_raw, row_major
from mace_core.deployment.schema import ELEMENTS, FORMATS, RUNTIMES
from mace_core.errors import MaceError, ModelError, UsageError, shorten
from mace_core.frontend.load import load_model
from mace_core.host.files import replacing
from mace_core.inputs.files import load_file
from mace_core.inputs.pictures import SUFFIXES, PictureOptions
from mace_core.scheduler.planning.specs import ValueSpec
from mace_core.session import Session
from mace_core.tensor.types import format_shape
from mace_core.version import VERSION

Array: TypeAlias = "npt.NDArray[Any]"

_AFFINITY = {0: "none", 1: "big", 2: "little", 3: "big", 4: "little"}
_PREFERENCE = {0: "low_power", 1: "latency", 2: "sustained"}

TOLD = (
    ("model_name", "model name"),
    ("input_node", "input node"),
    ("input_shape", "input shape"),
    ("input_data_type", "input data_type"),
    ("input_data_format", "input data_format"),
    ("output_node", "output node"),
    ("output_shape", "output shape"),
    ("output_data_format", "output data_format"),
    ("input_file", "input_file"),
    ("output_file", "output_file"),
    ("input_dir", "input dir"),
    ("output_dir", "output dir"),
    ("model_data_file", "model_data_file"),
    ("model_file", "model_file"),
    ("round", "round"),
    ("restart_round", "restart_round"),
    ("num_threads", "num_threads"),
    ("cpu_affinity_policy", "cpu_affinity_policy"),
)


def run_flags(flags: Flags, *, say: Callable[[str], None], write: Callable[[str], object]) -> None:
    """Do what the flags say.

    Args:
        say: takes lines of the log.
        write: takes what is printed.

    Raises:
        MaceError: for flags that do not fit the model, files that cannot be read or written, and runs that fail.
    """
    for name, words in TOLD:
        say(f"{words}: {flags.values[name]}")
    say(f"mace version: {VERSION}")
    for flag in FLAGS:
        if flag.unused and flag.name in flags.given:
            say(f"--{flag.name} changes nothing here: {flag.unused}")
    model = _model_file(flags)
    if flags.number("restart_round") < 1 or flags.number("round") < 0:
        raise UsageError("--restart_round is at least 1, and --round at least 0")
    capability = 0.0
    if not flags.text("input_dir"):
        from mace_core.deployment.capability import capability_ms

        capability = capability_ms(threads=max(flags.number("num_threads"), 0))
    for number in range(flags.number("restart_round")):
        if number:
            say(f"restart round {number}")
        _Run(flags, model, say, write).run(capability)


def _model_file(flags: Flags) -> Path:
    """
    Raises:
        UsageError: if none is named, or it is one of MACE's own.
    """
    given, name = flags.text("model_file"), flags.text("model_name")
    if given:
        path = Path(given)
        if path.suffix.lower() == ".pb" and path.is_file():
            raise UsageError(
                f"--model_file={given}: it is a graph of MACE's own form or of TensorFlow's; convert the original "
                "model (mace convert), and give the .mace file"
            )
        return path
    if not name:
        raise UsageError("there is no model: write --model_file=build/LIBRARY/model/MODEL.mace")
    if not re.fullmatch(r"\w+", name):
        raise UsageError(f"--model_name={shorten(name)}: it is the name of a model in a deployment file")
    found = sorted(Path("build").glob(f"*/model/{name}.mace"))
    if len(found) != 1:
        what = "none" if not found else f"{len(found)} of them ({', '.join(map(str, found[:3]))})"
        raise UsageError(f"--model_name={name}: there is {what} at build/*/model/{name}.mace; write --model_file=…")
    return found[0]


class _Run:
    """One time that the model is opened, and its runs."""

    def __init__(self, flags: Flags, model: Path, say: Callable[[str], None], write: Callable[[str], object]) -> None:
        self._flags = flags
        self._model = model
        self._say = say
        self._write = write

    def run(self, capability: float) -> None:
        start = time.perf_counter()
        with self._open() as session:
            init = (time.perf_counter() - start) * 1000
            self._say(f"Total init latency: {init:.3f} ms")
            inputs, outputs = self._inputs(session), self._outputs(session)
            if self._flags.text("input_dir"):
                self._run_folder(session, inputs, outputs)
                return
            feeds = self._feeds(inputs)
            found, warmup = self._timed(session, feeds)
            self._say(f"1st warm up run latency: {warmup:.3f} ms")
            self._say(f"runtimes: {', '.join(_places(session))}")
            average, rounds = -1.0, self._flags.number("round")
            if rounds > 0:
                total = 0.0
                for _ in range(rounds):
                    found, took = self._timed(session, feeds)
                    total += took
                average = total / rounds
                self._say(f"Average latency: {average:.3f} ms")
            target = self._flags.text("output_file")
            if target:
                for tensor in outputs:
                    self._save(Path(f"{target}_{file_name(tensor.name)}"), tensor, found[tensor.name])
            self._table(capability, init, warmup, average)
            if self._flags.is_on("benchmark") or self._flags.is_on("benchmark_model"):
                from mace_core.report.mace_sections import measure_sections

                found_sections = measure_sections(session, str(self._model), feeds, runs=max(rounds, 1))
                for table in found_sections.tables():
                    self._write(f"{table.text(None)}\n\n")
                for note in found_sections.notes():
                    self._write(f"{note}\n")

    def _open(self) -> Session:
        devices, options = self._placing()
        cache = not (
            "accelerator_cache_policy" in self._flags.given and self._flags.number("accelerator_cache_policy") == 0
        )
        return Session(
            self._model, devices=devices, options=options or None, strict=self._flags.is_on("strict"), cache=cache
        )

    def _placing(self) -> tuple[list[str] | None, dict[str, dict[str, object]]]:
        """Devices and options: of the flags, and of the deployment file that the model was converted by."""
        flags, options = self._flags, dict[str, dict[str, object]]()
        stored = _stored(self._model)
        devices = [part.strip() for part in flags.text("device").split(",") if part.strip()]
        runtime = stored.get("runtime")
        if not devices and runtime in RUNTIMES:
            devices, notes = devices_of(runtime)
            for note in notes:
                self._say(note)
        given = stored.get("options")
        for provider, each in given.items() if isinstance(given, dict) else ():
            known = CARRIED_OPTIONS.get(provider, frozenset())
            taken = {name: value for name, value in each.items() if name in known} if isinstance(each, dict) else {}
            if taken:
                options[provider] = taken
        if flags.number("num_threads") > 0:
            options.setdefault("cpu", {})["threads"] = flags.number("num_threads")
        if "cpu_affinity_policy" in flags.given:
            options.setdefault("cpu", {})["affinity"] = _AFFINITY[flags.number("cpu_affinity_policy")]
        if runtime == "apu":
            if "apu_boost_hint" in flags.given:
                options.setdefault("apu", {})["boost"] = flags.number("apu_boost_hint")
            if "apu_preference_hint" in flags.given:
                options.setdefault("apu", {})["performance"] = _PREFERENCE[flags.number("apu_preference_hint")]
        return devices or None, options

    def _inputs(self, session: Session) -> list[Tensor]:
        needed = [spec for spec in session.inputs if not spec.optional]
        specs = chosen_specs(self._flags.text("input_node"), session.inputs, needed, "input_node")
        missing = [spec.name for spec in needed if spec not in specs]
        if missing:
            raise UsageError(f"--input_node leaves out '{missing[0]}', which the model needs")
        return [
            input_tensor(spec, given, form)
            for spec, given, form in zip(specs, *self._columns("input", len(specs)), strict=True)
        ]

    def _outputs(self, session: Session) -> list[Tensor]:
        specs = chosen_specs(self._flags.text("output_node"), session.outputs, session.outputs, "output_node")
        return [
            output_tensor(spec, given, form)
            for spec, given, form in zip(specs, *self._columns("output", len(specs)), strict=True)
        ]

    def _columns(self, side: str, count: int) -> tuple[list[str], list[str]]:
        """Shape and layout of each tensor, as texts; "" for a shape that is not given."""
        shapes = self._listed(f"{side}_shape", ":", count, is_for_all=False) or [""] * count
        types = self._listed(f"{side}_data_type", ",", count, is_for_all=True)
        forms = self._listed(f"{side}_data_format", ",", count, is_for_all=True)
        for name, words, known in (("data_type", types, (*ELEMENTS, "NONE")), ("data_format", forms, FORMATS)):
            for word in words:
                if word not in known:
                    raise UsageError(f"--{side}_{name}: '{shorten(word, 60)}' is not one of {', '.join(known)}")
        return shapes, forms

    def _listed(self, name: str, separator: str, count: int, *, is_for_all: bool) -> list[str]:
        parts = [part.strip() for part in self._flags.text(name).split(separator) if part.strip()]
        if not parts or len(parts) == count:
            return parts
        if is_for_all and len(parts) == 1:
            return parts * count
        raise UsageError(f"--{name} has {len(parts)} entries, and the model has {count} tensors there")

    def _feeds(self, inputs: Sequence[Tensor]) -> dict[str, Array]:
        prefix = self._flags.text("input_file")
        if not prefix:
            self._say("no --input_file: random numbers from -1 to 1")
            generator = np.random.default_rng(0)
            return {tensor.name: _turned(_random(tensor, generator), tensor) for tensor in inputs}
        return {tensor.name: self._read(self._named(prefix, tensor, len(inputs)), tensor) for tensor in inputs}

    def _named(self, prefix: str, tensor: Tensor, count: int) -> Path:
        path = Path(f"{prefix}_{file_name(tensor.name)}")
        if count == 1 and not path.exists() and Path(prefix).is_file():
            return Path(prefix)
        return path

    def _read(self, path: Path, tensor: Tensor) -> Array:
        suffix = path.suffix.lower()
        if suffix == ".npy" or suffix in SUFFIXES:
            pictures = PictureOptions("NHWC" if tensor.shape[-1:] in ((1,), (3,), (4,)) else "NCHW")
            array = load_file(path, _as_given(tensor), tensor.shape, pictures, self._say)
            if array.shape != tensor.shape:
                raise UsageError(
                    f"'{path}' has the shape {format_shape(array.shape)}, and {format_shape(tensor.shape)} is needed"
                )
        else:
            array = read_raw(path, tensor.shape, tensor.dtype)
        return _turned(array, tensor)

    def _run_folder(self, session: Session, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        """Every set of files in a folder: what follows the name of the first input is what they have in common."""
        folder, prefix = Path(self._flags.text("input_dir")), file_name(inputs[0].name)
        try:
            names = sorted(path.name for path in folder.iterdir() if path.name.startswith(prefix))
        except OSError as error:
            raise UsageError(f"--input_dir={folder}: it cannot be read: {error.strerror or error}") from None
        if not names:
            raise UsageError(f"--input_dir={folder}: no file in it begins with '{prefix}', the name of the input")
        target = Path(self._flags.text("output_dir")) if self._flags.text("output_dir") else None
        for name in names:
            suffix = name.removeprefix(prefix)
            feeds = {each.name: self._read(folder / f"{file_name(each.name)}{suffix}", each) for each in inputs}
            found = session.run(feeds)
            for tensor in outputs if target is not None else ():
                assert target is not None
                target.mkdir(parents=True, exist_ok=True)
                self._save(target / f"{file_name(tensor.name)}{suffix}", tensor, found[tensor.name])

    def _timed(self, session: Session, feeds: dict[str, Array]) -> tuple[dict[str, Any], float]:
        start = time.perf_counter()
        found = session.run(feeds)
        return found, (time.perf_counter() - start) * 1000

    def _save(self, path: Path, tensor: Tensor, value: Any) -> None:
        """Write an output as MACE does: int32 as it is, all else as float32."""
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiubV":
            raise MaceError(f"the output '{tensor.name}' is no array of numbers, so it has no raw form")
        if tensor.order and value.ndim == len(tensor.order):
            value = value.transpose(tensor.order)
        is_whole = value.dtype.kind in "iub" and value.dtype.itemsize >= 4
        stored = np.asarray(value, np.int32 if is_whole else np.float32, order="C")
        try:
            with replacing(path) as file:
                file.write(stored.tobytes())
        except OSError as error:
            raise MaceError(f"the output file '{path}' cannot be written: {error.strerror or error}") from None
        self._say(f"Write output file {path} with size {stored.size} done.")

    def _table(self, capability: float, init: float, warmup: float, average: float) -> None:
        line = "=" * 56
        self._write(f"{line}\n     capability(CPU)        init      warmup     run_avg\n{line}\n")
        self._write(f"time {capability:15.3f} {init:11.3f} {warmup:11.3f} {average:11.3f}\n")


def file_name(name: str) -> str:
    """The name of a tensor as part of a file's: as MACE has it, ``_`` for all but letters and digits of ASCII."""
    return re.sub(r"[^A-Za-z0-9]", "_", name)


def _stored(model: Path) -> dict[str, Any]:
    """What the deployment file said that a package was converted by; nothing for another model.

    Raises:
        ModelError: if the package says it in no form that a conversion writes.
    """
    if model.suffix.lower() != ".mace" or not model.is_file():
        return {}
    text = load_model(model).metadata.get(DEPLOYMENT_KEY, "{}")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ModelError(f"'{model}': its metadata '{DEPLOYMENT_KEY}' is in no form that is known: convert it again")
    return found


def _as_given(tensor: Tensor) -> ValueSpec:
    return ValueSpec(tensor.name, tensor.dtype, tensor.shape)


def _turned(array: Array, tensor: Tensor) -> Array:
    array = array.astype(tensor.spec.dtype.numpy, copy=False)
    return row_major(array.transpose(tensor.order) if tensor.order else array)


def _random(tensor: Tensor, generator: np.random.Generator) -> Array:
    if tensor.dtype.is_float:
        return generator.uniform(-1, 1, tensor.shape).astype(tensor.dtype.numpy)
    return np.asarray(generator.integers(0, 2, tensor.shape)).astype(tensor.dtype.numpy)


def _places(session: Session) -> list[str]:
    """Where the nodes ran, the most first."""
    counts: dict[str, int] = {}
    for entry in session.explain().nodes:
        counts[entry.device] = counts.get(entry.device, 0) + 1
    return [f"{device} ({count} nodes)" for device, count in sorted(counts.items(), key=lambda each: -each[1])]
