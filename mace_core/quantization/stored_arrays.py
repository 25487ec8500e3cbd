"""Samples in an ``.npz`` file, read one after another: an array of a gigabyte is never in memory whole."""

from __future__ import annotations

import contextlib
import math
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from mace_core.errors import InputError, MaceError
from mace_core.inputs.pictures import what_else
from mace_core.scheduler.planning.specs import ValueSpec
from mace_core.tensor.types import format_shape


@dataclass(frozen=True, slots=True)
class _Member:
    """An array of the archive.

    Attributes:
        shape: of a sample.
        count: of samples.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    count: int


class StoredArrays:
    """An archive with one array for each input, named like it.

    An array of the input's own rank holds samples along its first dimension, as many at a time as the input takes (one
    where that is free); an array with one dimension more holds samples of the input's shape; an array of the very shape
    of the input is one sample.
    """

    def __init__(self, path: Path) -> None:
        """
        Raises:
            InputError: if there is no such file.
        """
        if not path.is_file():
            raise InputError(f"'{path}' is a folder" if path.is_dir() else f"there is no file '{path}'")
        self._path = path

    def samples(self, specs: Sequence[ValueSpec]) -> Iterator[tuple[str, dict[str, npt.NDArray[Any]]]]:
        """``(where it is from, feeds)``, one after another.

        Raises:
            InputError: if the file cannot be read, or its arrays do not fit the inputs or one another.
        """
        try:
            with zipfile.ZipFile(self._path) as archive, contextlib.ExitStack() as opened:
                streams: list[tuple[_Member, IO[bytes]]] = []
                for entry in archive.namelist():
                    stream = opened.enter_context(archive.open(entry))
                    streams.append((self._member(entry.removesuffix(".npy"), stream, specs), stream))
                count = self._count([member for member, _ in streams])
                for number in range(count):
                    yield f"sample {number} of '{self._path}'", {m.name: _read(m, stream) for m, stream in streams}
        except MaceError:
            raise
        except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
            raise InputError(f"'{self._path}' cannot be read as a .npz file{what_else(self._path)}: {error}") from error

    def _member(self, name: str, stream: IO[bytes], specs: Sequence[ValueSpec]) -> _Member:
        spec = next((spec for spec in specs if spec.name == name), None)
        if spec is None:
            known = ", ".join(f"'{spec}'" for spec in specs)
            raise InputError(f"'{self._path}' has an array '{name}', and the model no such input; its inputs: {known}")
        version = np.lib.format.read_magic(stream)
        reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, is_fortran, dtype = reader(stream)
        if dtype.hasobject:
            raise InputError(f"'{self._path}': the array '{name}' holds Python objects, not numbers")
        if is_fortran and len(shape) > 1:
            raise InputError(
                f"'{self._path}': the array '{name}' is in column-major order, in which samples cannot be read one by "
                "one; save numpy.ascontiguousarray of it"
            )
        return self._divided(spec, shape, dtype)

    def _divided(self, spec: ValueSpec, shape: tuple[int, ...], dtype: np.dtype[Any]) -> _Member:
        wanted = spec.shape
        if wanted is None or not shape or shape == wanted:
            return _Member(spec.name, dtype, shape, 1)
        if len(shape) == len(wanted) + 1:
            return _Member(spec.name, dtype, shape[1:], shape[0])
        batch = wanted[0] if wanted and isinstance(wanted[0], int) else 1
        if len(shape) == len(wanted) and batch and shape[0] % batch == 0:
            return _Member(spec.name, dtype, (batch, *shape[1:]), shape[0] // batch)
        raise InputError(
            f"'{self._path}': the array '{spec.name}' of shape {format_shape(shape)} cannot be divided into samples "
            f"for the input '{spec}'"
        )

    def _count(self, members: Sequence[_Member]) -> int:
        counts = {member.name: member.count for member in members}
        if len(set(counts.values())) > 1:
            told = ", ".join(f"'{name}' {count}" for name, count in counts.items())
            raise InputError(f"'{self._path}' has another number of samples for every input: {told}")
        return next(iter(counts.values()), 0)


def _read(member: _Member, stream: IO[bytes]) -> npt.NDArray[Any]:
    size = math.prod(member.shape) * member.dtype.itemsize
    content = stream.read(size)
    if len(content) != size:
        raise EOFError(f"the array '{member.name}' is cut off")
    return np.frombuffer(content, member.dtype).reshape(member.shape)
