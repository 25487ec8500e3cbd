"""Calibration data: a stream of feeds that can be begun again, of which one sample is in memory at a time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mace_core.errors import InputError, MaceError, UsageError, describe_error
from mace_core.inputs.files import load_archive, load_file
from mace_core.inputs.pictures import SUFFIXES, PictureOptions
from mace_core.quantization.functions import import_function
from mace_core.quantization.stored_arrays import StoredArrays
from mace_core.scheduler.planning.specs import ValueSpec
from mace_core.tensor.types import Shape, format_shape

Feeds: TypeAlias = dict[str, npt.NDArray[Any]]

DEFAULT_SAMPLES = 1000
"""The field's advice for calibration; more bring little."""

Data: TypeAlias = "str | Path | Iterable[Any] | Callable[[], Iterable[Any]]"
"""A folder, an ``.npz`` file, ``module:function``, a function that gives an iterable, or a sequence of samples."""


class CalibrationData:
    """Feeds for a model, one sample after another; every iteration begins again.

    Attributes:
        label: what the data are, for messages.
    """

    def __init__(self, label: str, specs: Sequence[ValueSpec], begin: Callable[[], Iterator[tuple[str, Any]]]) -> None:
        self.label = label
        self._specs = {spec.name: spec for spec in specs}
        self._needed = [spec.name for spec in specs if not spec.optional]
        self._begin = begin

    def __iter__(self) -> Iterator[tuple[str, Feeds]]:
        """``(where it is from, feeds)`` of each sample.

        Raises:
            UsageError, InputError: if the data cannot be read or do not fit the model.
        """
        for origin, sample in self._begin():
            yield origin, self._checked(origin, sample)

    def _checked(self, origin: str, sample: Any) -> Feeds:
        feeds = self._named(origin, sample)
        unknown = [name for name in feeds if name not in self._specs]
        known = ", ".join(f"'{spec}'" for spec in self._specs.values())
        if unknown:
            raise InputError(f"{origin} has a value for '{unknown[0]}'; the model's inputs are {known}")
        missing = [name for name in self._needed if name not in feeds]
        if missing:
            raise InputError(f"{origin} has no value for the input '{self._specs[missing[0]]}'")
        return {name: _fitted(origin, array, self._specs[name]) for name, array in feeds.items()}

    def _named(self, origin: str, sample: Any) -> dict[str, Any]:
        if isinstance(sample, Mapping):
            return {str(name): value for name, value in sample.items()}
        if isinstance(sample, tuple | list) and len(sample) == len(self._needed) and len(self._needed) > 1:
            return dict(zip(self._needed, sample, strict=True))
        if len(self._needed) == 1:
            return {self._needed[0]: sample}
        raise InputError(
            f"{origin} is {type(sample).__name__}; a sample for this model is a dictionary with an array for each of "
            f"{', '.join(self._needed)}"
        )


def calibration_data(
    data: Data,
    specs: Sequence[ValueSpec],
    *,
    pictures: PictureOptions | None = None,
    shapes: Mapping[str, Shape] | None = None,
    limit: int = DEFAULT_SAMPLES,
) -> CalibrationData:
    """The data that ``data`` names, for inputs ``specs``.

    Args:
        data: see `Data`.
        specs: of the model's inputs.
        pictures: how pictures become tensors.
        shapes: of inputs with free dimensions, which pictures are made to fit.
        limit: of samples; of a folder with more, files from all over it are taken.

    Raises:
        UsageError, InputError: if there is no such data, or none in it.
    """
    if limit < 1:
        raise UsageError(f"the number of calibration samples is at least 1, not {limit}")
    if isinstance(data, str | Path):
        label, begin = _named_data(str(data), specs, pictures or PictureOptions(), shapes or {}, limit)
    elif callable(data):
        label = getattr(data, "__name__", type(data).__name__)
        begin = _from_function(data, f"the data function '{label}'")
    elif isinstance(data, Iterator):
        raise UsageError("calibration may go over its data several times: give a function that makes the generator")
    else:
        label, begin = "the data", _from_function(lambda: data, "the data")
    return CalibrationData(label, specs, lambda: _at_least_one(label, itertools.islice(begin(), limit)))


def _named_data(
    name: str, specs: Sequence[ValueSpec], pictures: PictureOptions, shapes: Mapping[str, Shape], limit: int
) -> tuple[str, Callable[[], Iterator[tuple[str, Any]]]]:
    path = Path(name)
    if path.is_dir():
        files = _files_of(path, limit)
        return f"'{name}'", lambda: _from_files(files, specs, pictures, shapes)
    if path.suffix.lower() == ".npz":
        return f"'{name}'", lambda: StoredArrays(path).samples(specs)
    module, _, function = name.rpartition(":")
    if module and function.isidentifier():
        found = import_function(name, "--data")
        return f"'{name}'", _from_function(found, f"the data function '{name}'")
    if path.exists():
        raise UsageError(f"'{name}' is no calibration data: give a folder, an .npz file, or module:function")
    raise InputError(f"there are no calibration data '{name}': give a folder, an .npz file, or module:function")


def _at_least_one(label: str, samples: Iterator[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    first = next(samples, None)
    if first is None:
        raise InputError(f"{label} gives no sample; calibration needs at least one, and 100 to 1,000 for good ranges")
    yield first
    yield from samples


def _files_of(folder: Path, limit: int) -> list[Path]:
    """At most ``limit`` files that can be samples, from all over the folder and those in it, in order of name."""
    kinds = (*SUFFIXES, ".npy", ".npz")
    try:
        inside = [file for file in folder.rglob("*") if file.suffix.lower() in kinds and file.is_file()]
        found = sorted(file for file in inside if not _is_hidden(file.relative_to(folder)))
    except OSError as error:
        raise InputError(f"the folder '{folder}' cannot be read: {error.strerror or error}") from error
    if not found:
        raise InputError(f"the folder '{folder}' has no calibration data: pictures, .npy or .npz files")
    if len(found) > limit:
        found = [found[number * len(found) // limit] for number in range(limit)]
    return found


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _from_files(
    files: Sequence[Path], specs: Sequence[ValueSpec], pictures: PictureOptions, shapes: Mapping[str, Shape]
) -> Iterator[tuple[str, Any]]:
    by_name = {spec.name: spec for spec in specs}
    needed = [spec for spec in specs if not spec.optional]
    for file in files:
        if file.suffix.lower() == ".npz":
            yield f"'{file}'", load_archive(file, by_name)
        elif len(needed) == 1:
            spec = needed[0]
            yield f"'{file}'", {spec.name: load_file(file, spec, shapes.get(spec.name, spec.shape), pictures)}
        else:
            raise InputError(
                f"'{file}' holds one array, and the model needs {len(needed)} inputs "
                f"({', '.join(spec.name for spec in needed)}): give .npz files with one array for each"
            )


def _from_function(function: Callable[[], Iterable[Any]], label: str) -> Callable[[], Iterator[tuple[str, Any]]]:
    def begin() -> Iterator[tuple[str, Any]]:
        iterator: Iterator[Any] | None = None
        for number in itertools.count():
            try:
                if iterator is None:
                    iterator = iter(function())
                sample = next(iterator)
            except StopIteration:
                return
            except (MaceError, KeyboardInterrupt):
                raise
            except Exception as error:
                raise InputError(f"{label} failed at sample {number}: {describe_error(error)}") from error
            yield f"sample {number} of {label}", sample

    return begin


def _fitted(origin: str, value: Any, spec: ValueSpec) -> npt.NDArray[Any]:
    """The array as the input takes it.

    A missing leading dimension of 1 is added, and floats of another width are converted; all else is refused.
    """
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise InputError(f"{origin} has no array for the input '{spec.name}': {error}") from error
    shape, wanted = array.shape, spec.shape
    if wanted and len(shape) + 1 == len(wanted) and (wanted[0] == 1 or not isinstance(wanted[0], int)):
        array = array[None]
    if not fits(array.shape, wanted):
        raise InputError(
            f"{origin} has an array of shape {format_shape(shape)} for the input '{spec}'; calibration data have the "
            "shapes of the model's inputs"
        )
    if not array.size:
        raise InputError(f"{origin} has an empty array of shape {format_shape(shape)} for the input '{spec.name}'")
    return _cast(origin, array, spec)


def fits(shape: tuple[int, ...], wanted: Shape | None) -> bool:
    """Whether an array of this shape may be fed where ``wanted`` is asked for."""
    if wanted is None:
        return True
    return len(shape) == len(wanted) and all(
        not isinstance(want, int) or want == size for want, size in zip(wanted, shape, strict=True)
    )


def _cast(origin: str, array: npt.NDArray[Any], spec: ValueSpec) -> npt.NDArray[Any]:
    wanted = spec.dtype.numpy
    if array.dtype == wanted:
        return array
    is_lossless = array.dtype.kind == wanted.kind and array.dtype.kind in "iu" and np.can_cast(array.dtype, wanted)
    if is_lossless or (spec.dtype.is_float and array.dtype.kind == "f"):
        return array.astype(wanted)
    raise InputError(f"{origin} has an array of {array.dtype} for the input '{spec}'; convert it to {wanted}")
