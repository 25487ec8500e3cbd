"""Input tensors from the command line: files, pictures, random numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mace_core.cli.parsing import parse_numbers, parse_size
from mace_core.cli.verbosity import note
from mace_core.errors import UsageError
from mace_core.inputs.files import load_archive, load_file
from mace_core.inputs.pictures import PictureOptions
from mace_core.tensor import DType, TensorSpec, TensorType
from mace_core.tensor.types import Shape, format_shape

if TYPE_CHECKING:
    from mace_core.cli.shared_options import InputOptions
    from mace_core.scheduler.planning.assumptions import AssumedShapes
    from mace_core.scheduler.planning.specs import ValueSpec
    from mace_core.session import Session

RANDOM_INTEGER_LIMIT = 10
"""Random integers are below it: most integer inputs are indices, lengths or flags."""

LARGEST_INPUT_BYTES = 1 << 32


def gather_inputs(session: Session, options: InputOptions, *, fill: bool, seed: int) -> dict[str, npt.NDArray[Any]]:
    """One array per input of the model.

    Args:
        fill: take random numbers for inputs that no file is given for.
        seed: of those numbers.

    Raises:
        UsageError: for a name the model does not have, a file that cannot be read, an input without a value, a file
            whose shape is not the one asked for, and where no shape is found that the model takes.
    """
    specs = session.inputs
    shapes = parse_shapes(options.shape, specs)
    feeds = load_inputs(specs, options, shapes)
    missing = [spec for spec in specs if spec.name not in feeds and not spec.optional]
    if missing and not fill:
        needed = ", ".join(f"'{spec}'" for spec in missing)
        raise UsageError(f"no value for the input {needed}: give --input {missing[0].name}=FILE, or --random")
    if missing:
        _check_can_be_random(missing)
        assumed = session.assume_shapes({**shapes, **{name: array.shape for name, array in feeds.items()}})
        tell_assumed(assumed)
        generator = np.random.default_rng(seed)
        feeds |= {spec.name: random_input(spec, assumed.shapes[spec.name], generator) for spec in missing}
    return {spec.name: feeds[spec.name] for spec in specs if spec.name in feeds}


def gather_shapes(session: Session, options: InputOptions) -> AssumedShapes:
    """The shape of every input: of the files given, of ``--shape``, and assumed where neither decides.

    Raises:
        UsageError: as `gather_inputs`.
    """
    shapes = parse_shapes(options.shape, session.inputs)
    feeds = load_inputs(session.inputs, options, shapes)
    return session.assume_shapes({**shapes, **{name: array.shape for name, array in feeds.items()}})


def tell_assumed(assumed: AssumedShapes) -> None:
    """Say on standard error which sizes were assumed, and how to set them."""
    if assumed.sizes:
        note(f"sizes assumed for free dimensions: {assumed.note} ({assumed.arguments} sets them)")


def picture_options(options: InputOptions) -> PictureOptions:
    """What the options of a command say about pictures.

    Raises:
        UsageError: for one that says nothing.
    """
    layout = options.layout.upper()
    if layout not in ("", "NCHW", "NHWC"):
        raise UsageError(f"--layout {options.layout}: it is NCHW or NHWC")
    mean, scale = parse_numbers("--mean", options.mean), parse_numbers("--scale", options.scale)
    return PictureOptions(layout, mean, scale, parse_size(options.resize), options.bgr)


def parse_shapes(texts: Sequence[str], specs: Sequence[TensorSpec]) -> dict[str, tuple[int, ...]]:
    """``NAME=1x3x48x320`` by name; ``scalar`` for no dimensions.

    Raises:
        UsageError: for an unknown name, or what is not a shape or does not fit the model's.
    """
    by_name = {spec.name: spec for spec in specs}
    shapes: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, value = split_named(text, by_name, "--shape", "1x3x224x224")
        if value != "scalar" and not re.fullmatch(r"[0-9]{1,18}([x,][0-9]{1,18})*", value):
            raise UsageError(f"--shape {text}: '{value}' is not a shape; write it like 1x3x224x224")
        shape = () if value == "scalar" else tuple(int(part) for part in re.split("[x,]", value))
        if not _fits(shape, by_name[name].shape):
            raise UsageError(f"--shape {text} does not fit the input '{by_name[name]}'")
        shapes[name] = shape
    return shapes


def random_input(spec: TensorSpec, shape: tuple[int, ...], generator: np.random.Generator) -> npt.NDArray[Any]:
    """Normally distributed floats, small integers, or coin flips."""
    checked_count(spec, shape)
    if spec.dtype is DType.STRING:
        return np.full(shape, "text", dtype=object)
    if spec.dtype is DType.BOOL:
        return generator.integers(0, 2, shape).astype(bool)
    if spec.dtype.is_integer:
        limit = min(RANDOM_INTEGER_LIMIT, 1 << (spec.dtype.bits - 1))
        return np.asarray(generator.integers(0, limit, shape)).astype(spec.dtype.numpy)
    return np.asarray(generator.standard_normal(shape, np.float32)).astype(spec.dtype.numpy)


def checked_count(spec: TensorSpec, shape: tuple[int, ...]) -> int:
    """The elements of a shape, for which there has to be memory."""
    elements = math.prod(shape)
    if elements * max(spec.dtype.bits, 8) // 8 > LARGEST_INPUT_BYTES:
        raise UsageError(
            f"the input '{spec.name}' of shape {list(shape)} would take {elements} elements; that is too large"
        )
    return elements


def load_inputs(
    specs: Sequence[ValueSpec], options: InputOptions, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, npt.NDArray[Any]]:
    """The arrays of ``--input`` and ``--npz``; ``shapes``: what ``--shape`` says, which a picture is resized to."""
    by_name = {spec.name: spec for spec in specs}
    picture = picture_options(options)
    feeds: dict[str, npt.NDArray[Any]] = {} if options.npz is None else load_archive(options.npz, by_name)
    for text in options.input:
        name, file = split_named(text, by_name, "--input", "FILE")
        if name in feeds:
            raise UsageError(f"--input {text}: the input '{name}' is given twice")
        spec = by_name[name]
        feeds[name] = load_file(Path(file), spec, shapes.get(name, spec.shape), picture, note)
    for name in feeds.keys() & shapes.keys():
        if feeds[name].shape != shapes[name]:
            raise UsageError(
                f"--shape says {format_shape(shapes[name])} for the input '{name}' and its file holds "
                f"{format_shape(feeds[name].shape)}; leave --shape out, or give a file of that shape"
            )
    return feeds


def _check_can_be_random(specs: Sequence[ValueSpec]) -> None:
    for spec in specs:
        check_is_tensor(spec)


def check_is_tensor(spec: TensorSpec) -> None:
    kind = getattr(spec, "type", None)
    if kind is not None and not isinstance(kind, TensorType):
        raise UsageError(
            f"the input '{spec}' is not a tensor; the command line cannot write it, but Session.run takes it"
        )


def split_named(text: str, by_name: Mapping[str, TensorSpec], option: str, example: str) -> tuple[str, str]:
    """``NAME=VALUE``; the name may itself hold a ``=``, and may be left out where one input only is needed."""
    for name in sorted(by_name, key=len, reverse=True):
        if text.startswith(f"{name}="):
            return name, text[len(name) + 1 :]
    known = ", ".join(f"'{spec}'" for spec in by_name.values()) or "none"
    if "=" in text:
        raise UsageError(f"{option} {text}: the model has no input '{text.partition('=')[0]}'; its inputs: {known}")
    needed = [name for name, spec in by_name.items() if not getattr(spec, "optional", False)]
    if len(needed) == 1:
        return needed[0], text
    raise UsageError(f"{option} {text}: say which input it is for, NAME={example}; the model's inputs: {known}")


def _fits(shape: tuple[int, ...], wanted: Shape | None) -> bool:
    if wanted is None:
        return True
    return len(shape) == len(wanted) and all(
        not isinstance(want, int) or want == size for want, size in zip(wanted, shape, strict=True)
    )
