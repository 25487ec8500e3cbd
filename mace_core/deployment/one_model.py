"""One model without a deployment file: as it is, in the precision that is asked for, compared with itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mace_core.compilation import settled_shapes
from mace_core.deployment.convert import checked_abis, write_report
from mace_core.deployment.files import Files
from mace_core.deployment.interface import Part, Port
from mace_core.deployment.layout import building, name_place
from mace_core.deployment.libraries import build_libraries
from mace_core.deployment.litert import LiteRtModel
from mace_core.deployment.one_graph import GraphWork, Surroundings
from mace_core.deployment.outcome import Conversion
from mace_core.deployment.read import DEFAULT_GRAPH
from mace_core.deployment.request import Request
from mace_core.deployment.schema import GraphKeys
from mace_core.deployment.values import KEYWORDS, SAFE_NAME
from mace_core.errors import MaceError, ModelError, UsageError
from mace_core.frontend.load import load_model
from mace_core.graph import Graph, Value
from mace_core.graph.kept import KeptState, kept_state
from mace_core.host.file_forms import PACKAGE_SUFFIX
from mace_core.host.staging import staging_folder
from mace_core.operators import resolve
from mace_core.tensor import TensorType

_PLACE = "the command line"


def convert_model(path: Path, request: Request) -> Conversion:
    """Convert a model; its inputs and outputs stay as they are.

    Args:
        path: the model file.
        request: its ``output`` is a folder, as for a deployment file, or the name of a package.

    Raises:
        UsageError: if the output cannot be, or the model takes no tensors.
        MaceError: if the model cannot be read, compiled or written.
    """
    graph = load_model(path)
    name = _name_of(path)
    part = _whole(graph, f"'{path}'")
    keys = GraphKeys.model_construct(  # what a file says is checked; this is so already
        input_tensors=tuple(port.name for port in part.fed),
        input_shapes=tuple(port.shape for port in part.fed),
        output_tensors=tuple(port.name for port in part.given),
        output_shapes=tuple(port.shape for port in part.given),
        data_type="fp32_fp32",
    )
    abis = checked_abis(request.target_abis)
    around = Surroundings(request, abis, request.target_socs, name, Files(Path()), _PLACE, lambda key: _PLACE)
    peer = None
    if path.suffix.lower() == ".tflite":
        peer = LiteRtModel.of(path, graph)
    work = GraphWork(around, name, DEFAULT_GRAPH, name, path, part, keys, peer=peer)
    if request.output.suffix.lower() == PACKAGE_SUFFIX:
        return _as_file(work, request.output, name, abis)
    done = Conversion(request.output / name, name, abis)
    with building(done.folder) as staging:
        (staging / "model").mkdir()
        done.models.append(work.run(staging))
        if request.libraries and abis:
            packages = {name: work.package}
            done.libraries = build_libraries(
                staging,
                packages,
                abis,
                name,
                optimize=request.optimize,
                weights="file" if request.data_format == "file" else "inside",
            )
        write_report(staging, done)
    return done


def _as_file(work: GraphWork, out: Path, name: str, abis: tuple[str, ...]) -> Conversion:
    """Only the package, under the name that was asked for."""
    if out.is_dir():
        raise UsageError(
            f"--output {out}: it is a folder; give the name of a package, or of a folder that is not .mace"
        )
    if not out.absolute().parent.is_dir():
        raise UsageError(f"--output {out}: there is no folder '{out.parent}'")
    if abis:
        raise UsageError(f"--output {out}: a package has no libraries for {', '.join(abis)}; give a folder")
    done = Conversion(out, name, abis)
    try:
        with staging_folder(out.absolute()) as folder:
            (folder / "model").mkdir()
            try:
                converted = work.run(folder)
            except MaceError as error:
                name_place(error, folder / work.package, out)
                raise
            done.models.append(converted)
            made = folder / work.package
            converted.package = out
            for field, suffix in (("ranges", ".range"), ("page", ".html")):
                beside: Path | None = getattr(converted, field)
                if beside is not None:
                    setattr(converted, field, out.with_suffix(suffix))
                    (folder / beside).replace(out.with_suffix(suffix))
            made.replace(out)
    except OSError as error:
        raise MaceError(f"'{out}' cannot be written: {error.strerror or error}") from None
    return done


def _name_of(path: Path) -> str:
    """What the model is called: its file's name, as one that C takes."""
    stem = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in path.stem) or "model"
    stem = f"_{stem}" if stem[0].isdigit() or stem in KEYWORDS else stem
    assert SAFE_NAME.fullmatch(stem[:100])
    return stem[:100]


def _whole(graph: Graph, label: str) -> Part:
    """All of a model, with sizes assumed for free dimensions where something is fed."""
    for value in (*graph.inputs, *graph.outputs):
        if value.type is not None and not isinstance(value.type, TensorType):
            raise UsageError(f"{label}: '{value.name}' is {value.type}, and what is converted has tensors alone")
    settled = settled_shapes(graph, {}, label)
    states = {name: state for name, state in kept_state(graph).items() if name in settled.shapes}
    after = {state.output for state in states.values()}
    inputs = [_port(value, settled.shapes[value.name], states.get(value.name)) for value in graph.inputs]
    types = {value: TensorType(port.dtype, port.shape) for value, port in zip(graph.inputs, inputs, strict=True)}
    try:
        resolved = resolve(graph, types).types
    except ModelError as error:
        raise ModelError(f"{label}: {error}") from error
    outputs = []
    for value in graph.outputs:
        found = resolved.get(value, value.type)
        if not isinstance(found, TensorType):
            raise UsageError(f"{label}: the type of the output '{value.name}' is not known")
        shape = found.concrete_shape if found.is_concrete else ()
        is_state = value.name in after
        outputs.append(Port(value.name, value.name, shape, shape, found.dtype, found.dtype, is_state=is_state))
    notes = [f"sizes assumed for free dimensions, to compare results: {settled.note}"] if settled.note else []
    return Part(graph, inputs, outputs, notes)


def _port(value: Value, shape: tuple[int, ...], state: KeptState | None) -> Port:
    assert isinstance(value.type, TensorType)
    dtype, start = value.type.dtype, None
    if state is not None:
        start = np.zeros(shape, dtype.numpy) if state.start is None else state.start
    return Port(value.name, value.name, shape, shape, dtype, dtype, start=start, is_state=state is not None)
