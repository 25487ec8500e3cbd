"""What a converted model is fed to check it, and to find ranges: the files that are given, else random numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mace_core.deployment.files import Files
from mace_core.deployment.interface import TO_CHANNELS_FIRST, TO_CHANNELS_LAST, Port
from mace_core.deployment.schema import GraphKeys
from mace_core.deployment.yaml_tree import ConfigError
from mace_core.errors import InputError, MaceError
from mace_core.host.memory import memory_needed
from mace_core.inputs.files import load_file
from mace_core.inputs.pictures import SUFFIXES, PictureOptions
from mace_core.tensor import DType, TensorSpec
from mace_core.tensor.types import format_shape

Array: TypeAlias = "npt.NDArray[Any]"
Feeds: TypeAlias = "dict[str, Array]"

MOST_SAMPLES = 1000
RANDOM_SAMPLES = 4
"""Of random inputs, to check results on."""

_INTEGERS_BELOW = 2
"""Random integers where no range is given: most are indices, lengths or flags, and MACE takes numbers from -1 to 1."""


@dataclass(slots=True)
class Samples:
    """Feeds of a converted model.

    Attributes:
        feeds: one dictionary for each sample, by the names of the ports.
        label: where they are from.
        is_random: nobody gave any.
        notes: what should be told.
    """

    feeds: list[Feeds]
    label: str
    is_random: bool = False
    notes: list[str] = field(default_factory=list)


def row_major(array: Array) -> Array:
    """An array whose numbers lie in the order of its axes; numpy's own function makes a scalar a row."""
    return np.asarray(array, order="C")


def samples_of(keys: GraphKeys, ports: Sequence[Port], files: Files, place: str) -> Samples:
    """The samples that a graph of a deployment file names, or random ones in its ranges.

    Raises:
        ConfigError: for files that are not there, or do not fit.
    """
    names, states = keys.validation_inputs_data, _starts(ports)
    if not names:
        return random_samples(keys, ports, RANDOM_SAMPLES, place)
    ports = [port for port in ports if not port.is_state]
    found = Samples([], "validation_inputs_data")
    paths = [files.find(name, place, "validation_inputs_data", is_file=len(ports) > 1, is_data=True) for name in names]
    if len(ports) == 1:
        paths = [inner for path in paths for inner in (_inside(path) if path.is_dir() else [path])]
    if len(paths) % len(ports):
        raise ConfigError(
            f"{place}: validation_inputs_data names {len(paths)} files, and the model has {len(ports)} inputs "
            f"({', '.join(port.name for port in ports)}): give one for each, or several times as many"
        )
    for first in range(0, min(len(paths), MOST_SAMPLES * len(ports)), len(ports)):
        group = paths[first : first + len(ports)]
        found.feeds.append(
            {
                port.name: read_array(path, port, limits, place, found.notes)
                for port, path, limits in zip(ports, group, keys.ranges, strict=True)
            }
            | states
        )
    if not found.feeds:
        raise ConfigError(f"{place}: validation_inputs_data has no file that is an array or a picture")
    return found


def random_samples(keys: GraphKeys, ports: Sequence[Port], count: int, place: str, seed: int = 0) -> Samples:
    """Numbers spread evenly over the ranges of the inputs; the same ones every time.

    Raises:
        OutOfMemoryError: if the shapes are too large.
    """
    generator, fed = np.random.default_rng(seed), [port for port in ports if not port.is_state]
    with memory_needed(f"{place}: {count} samples of {', '.join(format_shape(port.shape) for port in ports)}"):
        feeds = [
            {
                port.name: _random(port, limits, generator, has_range=bool(keys.input_ranges))
                for port, limits in zip(fed, keys.ranges, strict=True)
            }
            | _starts(ports)
            for _ in range(count)
        ]
    ranges = "; ".join(f"{low:g} to {high:g}" for low, high in dict.fromkeys(keys.ranges))
    return Samples(feeds, f"random numbers from {ranges}" if ports else "no inputs", is_random=True)


def _starts(ports: Sequence[Port]) -> Feeds:
    """What state is fed: each sample is the first run of a stream."""
    return {port.name: port.start for port in ports if port.start is not None}


def _random(port: Port, limits: tuple[float, float], generator: np.random.Generator, *, has_range: bool) -> Array:
    low, high = limits
    dtype = port.dtype
    if dtype is DType.BOOL:
        return generator.integers(0, 2, port.shape).astype(bool)
    if dtype.is_integer:
        if not has_range:
            low, high = 0, min(_INTEGERS_BELOW, (1 << (dtype.bits - 1)) - 1)
        held = np.iinfo(dtype.numpy)
        first = min(max(int(low), held.min), held.max - 1)
        last = min(max(int(high), first + 1), held.max)
        return np.asarray(generator.integers(first, last, port.shape, dtype.numpy))
    return generator.uniform(low, high, port.shape).astype(dtype.numpy)


def _inside(folder: Path) -> list[Path]:
    known = (".npy", ".bin", ".raw", ".dat", *SUFFIXES)
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in known and path.is_file())


def read_array(path: Path, port: Port, limits: tuple[float, float], place: str, notes: list[str]) -> Array:
    """One input: a ``.npy`` file, a picture whose pixels are spread over the range, or numbers as they lie in memory.

    Args:
        limits: the range of the input.

    Raises:
        ConfigError: if it cannot be read, or does not fit.
    """
    spec = TensorSpec(port.name, port.dtype, port.shape)
    suffix = path.suffix.lower()
    try:
        if suffix in SUFFIXES:
            array = load_file(path, spec, port.shape, _pixels(port, limits), notes.append)
        elif suffix == ".npy":
            array = load_file(path, spec, port.shape, None, notes.append)  # type: ignore[arg-type] # no picture
        else:
            array = read_raw(path, port.shape, port.dtype)
    except MaceError as error:
        raise ConfigError(f"{place}: {error}") from None
    return fitted(array, port, f"{place}: '{path}'", notes)


def read_output(path: Path, port: Port, place: str) -> Array:
    """What an output has to be: a ``.npy`` file, or numbers as they lie in memory, which are in the framework's layout.

    Raises:
        ConfigError: if it cannot be read, or does not fit.
    """
    is_array = path.suffix.lower() == ".npy"
    try:
        if is_array:
            spec = TensorSpec(port.name, port.dtype, port.shape)
            array = load_file(path, spec, None, None)  # type: ignore[arg-type] # no picture
        else:
            array = read_raw(path, port.own_shape, port.dtype)
    except MaceError as error:
        raise ConfigError(f"{place}: {error}") from None
    if array.size != math.prod(port.shape):
        raise ConfigError(
            f"{place}: '{path}' has the shape {format_shape(array.shape)}, and '{port.name}' has "
            f"{format_shape(port.shape)}"
        )
    if port.order and array.shape != port.shape:
        return row_major(array.reshape(port.own_shape).transpose(port.order))
    return array.reshape(port.shape)


def _pixels(port: Port, limits: tuple[float, float]) -> PictureOptions:
    """Pixels from 0 to 255, spread over a range; those of integer inputs stay as they are."""
    channels_last = len(port.shape) == 4 and port.shape[-1] in (1, 3, 4)
    layout = "NHWC" if channels_last else "NCHW"
    if not port.dtype.is_float:
        return PictureOptions(layout)
    low, high = limits
    scale = (high - low) / 255
    return PictureOptions(layout, mean=(-low / scale,), scale=(scale,))


def read_raw(path: Path, shape: tuple[int, ...], dtype: DType) -> Array:
    """Numbers as they lie in memory, which is what MACE's tools write: float32 for every float type, else the type.

    Raises:
        InputError: if the file cannot be read, or has another size.
    """
    stored = np.dtype(np.float32) if dtype.is_float else np.dtype(np.int32) if dtype is DType.INT64 else dtype.numpy
    elements = int(np.prod(shape, dtype=object)) if shape else 1
    try:
        if not path.is_file():
            raise InputError(f"there is no file '{path}'" if not path.exists() else f"'{path}' is no regular file")
        size = path.stat().st_size
        wanted = {elements * stored.itemsize: stored, elements * dtype.numpy.itemsize: dtype.numpy}
        if size not in wanted:
            raise InputError(
                f"'{path}' has {size} bytes, and {elements * stored.itemsize} make {stored}{format_shape(shape)}"
            )
        return np.fromfile(path, wanted[size]).reshape(shape)
    except OSError as error:
        raise InputError(f"'{path}' cannot be read: {error.strerror or error}") from None


def fitted(array: Array, port: Port, origin: str, notes: list[str]) -> Array:
    """An array as the port takes it: of its type, in its layout, with a batch of one where that is missing.

    Raises:
        ConfigError: if it does not fit.
    """
    if array.dtype != port.dtype.numpy:
        if array.dtype.kind not in "fiub" or (array.dtype.kind == "f") != port.dtype.is_float:
            raise ConfigError(f"{origin} has elements of {array.dtype}, and '{port.name}' takes {port.dtype.label}")
        array = array.astype(port.dtype.numpy)
    if array.ndim + 1 == len(port.shape) and port.shape[0] == 1:
        array = array[None]
    if array.shape == port.shape:
        return row_major(array)
    if port.order and array.shape == port.own_shape:
        notes.append(f"{origin} is in the model's own layout; turned")
        back = TO_CHANNELS_LAST if port.order == TO_CHANNELS_FIRST else TO_CHANNELS_FIRST
        return row_major(array.transpose(back))
    raise ConfigError(
        f"{origin} has the shape {format_shape(array.shape)}, and '{port.name}' has {format_shape(port.shape)}"
    )


def own_feeds(samples: Iterable[Feeds], ports: Sequence[Port]) -> Iterator[Feeds]:
    """The samples as the tensors of the model itself have them, by their names."""
    for sample in samples:
        yield {
            port.tensor: row_major(
                (sample[port.name].transpose(port.order) if port.order else sample[port.name]).astype(
                    port.own_dtype.numpy
                )
            )
            for port in ports
        }
