"""Input tensors from the command line: files, pictures, random numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
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
from mace_core.tensor.numbers import array_of
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
        name, value = _split(text, by_name, "--shape", "1x3x224x224")
        if value != "scalar" and not re.fullmatch(r"[0-9]{1,18}([x,][0-9]{1,18})*", value):
            raise UsageError(f"--shape {text}: '{value}' is not a shape; write it like 1x3x224x224")
        shape = () if value == "scalar" else tuple(int(part) for part in re.split("[x,]", value))
        if not _fits(shape, by_name[name].shape):
            raise UsageError(f"--shape {text} does not fit the input '{by_name[name]}'")
        shapes[name] = shape
    return shapes


def parse_fixed(
    texts: Sequence[str], specs: Sequence[TensorSpec], shapes: Sequence[str] = ()
) -> dict[str, npt.NDArray[Any]]:
    """``NAME=16000``, ``NAME=1,2,3``, ``NAME=true`` or ``NAME=FILE.npy`` by name: arrays of the types of the inputs.

    One number fills an input whose sizes are all known: from the model, or from what ``shapes`` (``NAME=1x128``) say of
    it, or of other inputs with the same symbols.

    Raises:
        UsageError, InputError: for an unknown name, a text that is no value of such an input, or a file that cannot be
            read.
    """
    by_name = {spec.name: spec for spec in specs}
    sizes = _said_sizes(shapes, specs)
    found: dict[str, npt.NDArray[Any]] = {}
    for text in texts:
        name, value = _split(text, by_name, "--set", "VALUE")
        if name in found:
            raise UsageError(f"--set {text}: the input '{name}' is set twice")
        _check_is_tensor(by_name[name])
        own = [shape for spec, shape in (_said_shape(each, specs) for each in shapes) if spec is by_name[name]]
        found[name] = _fixed_value(text, value, _sized(by_name[name], sizes, own))
    for text in shapes:
        spec, shape = _said_shape(text, specs)
        if spec is None or spec.name not in found:
            continue
        given = found[spec.name].shape
        if shape != ("x".join(map(str, given)) or "scalar"):
            raise UsageError(
                f"--shape {text}: the value that the input '{spec.name}' is set to is {format_shape(given)}"
            )
    return found


def shapes_of_others(shapes: Sequence[str], specs: Sequence[TensorSpec], fixed: Collection[str]) -> list[str]:
    """What ``--shape`` says of inputs that are not fixed."""
    owners = ((text, _said_shape(text, specs)[0]) for text in shapes)
    return [text for text, spec in owners if spec is None or spec.name not in fixed]


def _said_shape(text: str, specs: Sequence[TensorSpec]) -> tuple[TensorSpec | None, str]:
    """The input that a text ``NAME=1x128`` is for, the longest name that fits, and the rest of it."""
    fitting = [spec for spec in specs if text.startswith(f"{spec.name}=")]
    if not fitting:
        return None, ""
    spec = max(fitting, key=lambda each: len(each.name))
    return spec, text[len(spec.name) + 1 :].replace(",", "x")


def _said_sizes(shapes: Sequence[str], specs: Sequence[TensorSpec]) -> dict[str, int]:
    """The sizes of symbols that all shapes agree on; what is no shape of an input is told by whoever uses it."""
    found: dict[str, set[str]] = {}
    for text in shapes:
        spec, shape = _said_shape(text, specs)
        sizes = shape.split("x")
        if spec is not None and spec.shape is not None and len(sizes) == len(spec.shape):
            for symbol, size in zip(spec.shape, sizes, strict=True):
                if isinstance(symbol, str):
                    found.setdefault(symbol, set()).add(size)
    return {
        symbol: int(size)
        for symbol, sizes_said in found.items()
        for size in sizes_said
        if len(sizes_said) == 1 and re.fullmatch("[0-9]{1,18}", size)  # no range
    }


def _sized(spec: TensorSpec, sizes: Mapping[str, int], own: Sequence[str]) -> TensorSpec:
    """The specification with numbers in the place of symbols, and of what else is free where its ``own`` shape says."""
    if spec.shape is None:
        return spec
    shape = [sizes.get(d, d) if isinstance(d, str) else d for d in spec.shape]
    said = own[0].split("x") if own else []
    if len(said) == len(shape) and all(re.fullmatch("[0-9]{1,18}", size) for size in said):
        shape = [d if isinstance(d, int) else int(size) for d, size in zip(shape, said, strict=True)]
    return replace(spec, shape=tuple(shape))


def _fixed_value(text: str, value: str, spec: TensorSpec) -> npt.NDArray[Any]:
    if value.lower().endswith(".npy"):
        return load_file(Path(value), spec, spec.shape, PictureOptions())
    parts = value.split(",")
    if spec.dtype is DType.STRING and spec.shape is not None and all(size == 1 for size in spec.shape):
        parts = [value]
    try:
        items = array_of([_item(part, spec.dtype) for part in parts], spec.dtype)
    except (ValueError, KeyError) as error:
        raise UsageError(f"--set {text}: '{value}' is no {spec.dtype.label}, or a .npy file") from error
    sizes = spec.shape if spec.shape is not None else ((len(parts),) if len(parts) > 1 else ())
    shape = tuple(size for size in sizes if isinstance(size, int))
    if len(sizes) == 1 and not shape:
        shape = (len(parts),)
    if len(shape) < len(sizes):
        raise UsageError(
            f"--set {text}: the input '{spec}' has free sizes; say them with --shape, or give its value as a .npy file"
        )
    count = _checked_count(spec, shape)
    if len(parts) not in (1, count):
        raise UsageError(f"--set {text}: the input '{spec}' has {count} elements, and there are {len(parts)} numbers")
    return np.full(shape, items[0], items.dtype) if len(parts) == 1 else items.reshape(shape)


def _item(text: str, dtype: DType) -> Any:
    """
    Raises:
        ValueError, KeyError: if the text is no element of the type.
    """
    if dtype is DType.STRING:
        return text
    if dtype is DType.BOOL:
        return {"true": True, "1": True, "false": False, "0": False}[text.strip().lower()]
    if "_" in text:
        raise ValueError("a number has no _ in it")
    if dtype.is_integer:
        return int(text)
    number = float(text) if dtype.is_float else complex(text)
    if np.isinf(number) and "inf" not in text.lower():
        raise ValueError("the number is too large")
    return number


def random_input(spec: TensorSpec, shape: tuple[int, ...], generator: np.random.Generator) -> npt.NDArray[Any]:
    """Normally distributed floats, small integers, or coin flips."""
    _checked_count(spec, shape)
    if spec.dtype is DType.STRING:
        return np.full(shape, "text", dtype=object)
    if spec.dtype is DType.BOOL:
        return generator.integers(0, 2, shape).astype(bool)
    if spec.dtype.is_integer:
        limit = min(RANDOM_INTEGER_LIMIT, 1 << (spec.dtype.bits - 1))
        return np.asarray(generator.integers(0, limit, shape)).astype(spec.dtype.numpy)
    return np.asarray(generator.standard_normal(shape, np.float32)).astype(spec.dtype.numpy)


def _checked_count(spec: TensorSpec, shape: tuple[int, ...]) -> int:
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
        name, file = _split(text, by_name, "--input", "FILE")
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
        _check_is_tensor(spec)


def _check_is_tensor(spec: TensorSpec) -> None:
    kind = getattr(spec, "type", None)
    if kind is not None and not isinstance(kind, TensorType):
        raise UsageError(
            f"the input '{spec}' is not a tensor; the command line cannot write it, but Session.run takes it"
        )


def _split(text: str, by_name: Mapping[str, TensorSpec], option: str, example: str) -> tuple[str, str]:
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
