"""Input tensors from the command line: files, pictures, random numbers."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.cli.options import parse_numbers, parse_size
from mace_core.cli.pictures import SUFFIXES, PictureOptions, load_picture
from mace_core.errors import InputError, UsageError
from mace_core.tensor import DType, TensorSpec
from mace_core.tensor.types import Shape, format_shape

RANDOM_INTEGER_LIMIT = 10
"""Random integers are below it: most integer inputs are indices, lengths or flags."""

LARGEST_INPUT_BYTES = 1 << 32


def gather_inputs(
    specs: Sequence[TensorSpec],
    *,
    files: Sequence[str],
    shapes: Sequence[str],
    random: bool,
    seed: int,
    picture: PictureOptions,
) -> dict[str, npt.NDArray[Any]]:
    """One array per input of the model.

    Args:
        specs: the model's inputs.
        files: ``NAME=FILE`` or, for a model with one input, ``FILE``.
        shapes: ``NAME=1x3x48x320``.
        random: fill inputs that no file is given for.

    Raises:
        UsageError: for a name the model does not have, a file that can not be read, an input without a value.
    """
    by_name = {spec.name: spec for spec in specs}
    given_shapes = parse_shapes(shapes, specs)
    feeds: dict[str, npt.NDArray[Any]] = {}
    for text in files:
        name, file = _split(text, by_name, "--input", "FILE")
        if name in feeds:
            raise UsageError(f"--input {text}: the input '{name}' is given twice")
        feeds[name] = _load(Path(file), by_name[name], given_shapes.get(name, by_name[name].shape), picture)
    missing = [spec for spec in specs if spec.name not in feeds]
    if missing and not random:
        needed = ", ".join(f"'{spec}'" for spec in missing)
        raise UsageError(f"no value for the input {needed}: give --input {missing[0].name}=FILE, or --random")
    generator = np.random.default_rng(seed)
    symbols = _symbol_sizes(feeds, given_shapes, by_name)
    for spec in missing:
        feeds[spec.name] = random_input(spec, concrete_shape(spec, given_shapes.get(spec.name), symbols), generator)
    return {spec.name: feeds[spec.name] for spec in specs}


def picture_options(layout: str, mean: str, scale: str, resize: str, bgr: bool) -> PictureOptions:
    """What the options of a command say about pictures.

    Raises:
        UsageError: for one that says nothing.
    """
    if layout.upper() not in ("", "NCHW", "NHWC"):
        raise UsageError(f"--layout {layout}: it is NCHW or NHWC")
    return PictureOptions(
        layout.upper(), parse_numbers("--mean", mean), parse_numbers("--scale", scale), parse_size(resize), bgr
    )


def parse_shapes(texts: Sequence[str], specs: Sequence[TensorSpec]) -> dict[str, tuple[int, ...]]:
    """``NAME=1x3x48x320`` by name; ``scalar`` for no dimensions.

    Raises:
        UsageError: for an unknown name, or what is no shape or does not fit the model's.
    """
    by_name = {spec.name: spec for spec in specs}
    shapes: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, value = _split(text, by_name, "--shape", "1x3x224x224")
        if value != "scalar" and not re.fullmatch(r"\d+([x,]\d+)*", value):
            raise UsageError(f"--shape {text}: '{value}' is no shape; write it like 1x3x224x224")
        shape = () if value == "scalar" else tuple(int(part) for part in re.split("[x,]", value))
        if not _fits(shape, by_name[name].shape):
            raise UsageError(f"--shape {text} does not fit the input '{by_name[name]}'")
        shapes[name] = shape
    return shapes


def concrete_shape(spec: TensorSpec, given: tuple[int, ...] | None, symbols: Mapping[str, int]) -> tuple[int, ...]:
    """The shape to use for ``spec``: ``given``, else the model's with symbols filled in; open dimensions become 1."""
    if given is not None:
        return given
    if spec.shape is None:
        raise UsageError(f"the model does not say the rank of '{spec.name}': give --shape {spec.name}=…")
    shape = tuple(dim if isinstance(dim, int) else symbols.get(dim or "", 1) for dim in spec.shape)
    if any(not isinstance(dim, int) and (dim or "") not in symbols for dim in spec.shape):
        text = "x".join(map(str, shape)) or "scalar"
        sys.stderr.write(
            f"mace: note: '{spec.name}' has open dimensions {format_shape(spec.shape)}; using {text} "
            f"(--shape {spec.name}=… sets them)\n"
        )
    return shape


def random_input(spec: TensorSpec, shape: tuple[int, ...], generator: np.random.Generator) -> npt.NDArray[Any]:
    """Normally distributed floats, small integers, or coin flips."""
    elements = int(np.prod(shape, dtype=object)) if shape else 1
    if elements * max(spec.dtype.bits, 8) // 8 > LARGEST_INPUT_BYTES:
        raise UsageError(
            f"the input '{spec.name}' of shape {list(shape)} would take {elements} elements; that is too large"
        )
    if spec.dtype is DType.STRING:
        return np.full(shape, "text", dtype=object)
    if spec.dtype is DType.BOOL:
        return generator.integers(0, 2, shape).astype(bool)
    if spec.dtype.is_integer:
        limit = min(RANDOM_INTEGER_LIMIT, 1 << (spec.dtype.bits - 1))
        return np.asarray(generator.integers(0, limit, shape)).astype(spec.dtype.numpy)
    return np.asarray(generator.standard_normal(shape, np.float32)).astype(spec.dtype.numpy)


def _load(path: Path, spec: TensorSpec, shape: Shape | None, picture: PictureOptions) -> npt.NDArray[Any]:
    suffix = path.suffix.lower()
    if path.exists() and not path.is_file():  # reading a pipe would wait for ever
        raise InputError(f"'{path}' is no regular file")
    if suffix in SUFFIXES:
        return load_picture(path, spec, shape, picture)
    if suffix != ".npy":
        raise UsageError(f"'{path}': an input is a .npy file or a picture ({', '.join(SUFFIXES)})")
    try:
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"there is no file '{path}'") from None
    except MemoryError:
        raise InputError(f"'{path}' declares an array that is larger than the memory left") from None
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"'{path}' can not be read as a .npy file: {error}") from error
    return np.asarray(array)


def _split(text: str, by_name: Mapping[str, TensorSpec], option: str, example: str) -> tuple[str, str]:
    """``NAME=VALUE``; the name may itself hold a ``=``, and may be left out where there is one input only."""
    for name in sorted(by_name, key=len, reverse=True):
        if text.startswith(f"{name}="):
            return name, text[len(name) + 1 :]
    known = ", ".join(f"'{spec}'" for spec in by_name.values()) or "none"
    if "=" in text:
        raise UsageError(f"{option} {text}: the model has no input '{text.partition('=')[0]}'; its inputs: {known}")
    if len(by_name) == 1:
        return next(iter(by_name)), text
    raise UsageError(f"{option} {text}: say which input it is for, NAME={example}; the model's inputs: {known}")


def _symbol_sizes(
    feeds: Mapping[str, npt.NDArray[Any]], shapes: Mapping[str, tuple[int, ...]], by_name: Mapping[str, TensorSpec]
) -> dict[str, int]:
    """Sizes of symbolic dimensions that values and shapes given already decide."""
    sizes: dict[str, int] = {}
    for name, shape in [*shapes.items(), *((name, array.shape) for name, array in feeds.items())]:
        wanted = by_name[name].shape
        if wanted is not None and len(wanted) == len(shape):
            sizes.update({dim: size for dim, size in zip(wanted, shape, strict=True) if isinstance(dim, str)})
    return sizes


def _fits(shape: tuple[int, ...], wanted: Shape | None) -> bool:
    if wanted is None:
        return True
    return len(shape) == len(wanted) and all(
        not isinstance(want, int) or want == size for want, size in zip(wanted, shape, strict=True)
    )
