"""Files as input tensors: arrays of numpy, archives of them, pictures."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.errors import InputError, UsageError
from mace_core.inputs.pictures import SUFFIXES, PictureOptions, Tell, keep_quiet, load_picture, what_else
from mace_core.tensor import DType, TensorSpec
from mace_core.tensor.types import Shape


def load_file(
    path: Path, spec: TensorSpec, shape: Shape | None, picture: PictureOptions, tell: Tell = keep_quiet
) -> npt.NDArray[Any]:
    """The value of the input ``spec`` in a ``.npy`` file or a picture.

    Args:
        shape: of the input, as far as it is known; a picture is made to fit it.
        tell: gets a sentence where something of a picture is not used.

    Raises:
        UsageError, InputError: if the file is something else, is not there or cannot be read.
    """
    _check_regular(path)
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return load_picture(path, spec, shape, picture, tell)
    if suffix == ".npz":
        raise UsageError(f"'{path}' holds several arrays: give it as --npz {path}")
    if suffix != ".npy":
        raise UsageError(f"'{path}': an input is a .npy file or a picture ({', '.join(SUFFIXES)})")
    try:
        array = np.load(path, allow_pickle=False)
    except MemoryError:
        raise InputError(f"'{path}' declares an array that is larger than the memory left") from None
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"'{path}' cannot be read as a .npy file{what_else(path)}: {error}") from error
    if not isinstance(array, np.ndarray):
        raise InputError(f"'{path}' is an archive of arrays: give it as --npz {path}")
    return _of_extension(array, spec)


def _of_extension(array: npt.NDArray[Any], spec: TensorSpec) -> npt.NDArray[Any]:
    """An array as it was saved: numpy writes kinds that are not its own, as bfloat16, as so many bytes."""
    is_unnamed = array.dtype.kind == "V" and array.dtype.names is None and array.dtype.subdtype is None
    if not is_unnamed or spec.dtype is DType.STRING or array.dtype.itemsize != spec.dtype.numpy.itemsize:
        return array
    return array.view(spec.dtype.numpy) if spec.dtype.numpy.type.__module__ != "numpy" else array


def load_archive(path: Path, by_name: Mapping[str, TensorSpec]) -> dict[str, npt.NDArray[Any]]:
    """The arrays of a ``.npz`` file, each named like the input that it is for.

    Raises:
        UsageError, InputError: if it cannot be read, or a name is not an input's.
    """
    _check_regular(path)
    found: dict[str, npt.NDArray[Any]] = {}
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not hasattr(archive, "files"):
                raise InputError(f"--npz {path}: it is not an archive of arrays; a single array goes to --input")
            for name in archive.files:
                if name in by_name:
                    found[name] = _of_extension(archive[name], by_name[name])
            unknown = [name for name in archive.files if name not in by_name]
    except MemoryError:
        raise InputError(f"'{path}' declares an array that is larger than the memory left") from None
    except (OSError, ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise InputError(f"'{path}' cannot be read as a .npz file{what_else(path)}: {error}") from error
    if unknown:
        known = ", ".join(f"'{spec}'" for spec in by_name.values()) or "none"
        raise UsageError(f"--npz {path}: the model has no input '{unknown[0]}'; its inputs: {known}")
    return found


def _check_regular(path: Path) -> None:
    """Reading a pipe would wait for ever, and a folder is not an array."""
    if not path.exists():
        raise InputError(f"there is no file '{path}'")
    if not path.is_file():
        raise InputError(f"'{path}' is {'a folder' if path.is_dir() else 'no regular file'}")
