"""Values of inputs that become constants, from the command line (``--set``)."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.cli.inputs import check_is_tensor, checked_count, split_named
from mace_core.errors import UsageError
from mace_core.inputs.files import load_file
from mace_core.inputs.pictures import PictureOptions
from mace_core.tensor import DType, TensorSpec
from mace_core.tensor.numbers import array_of
from mace_core.tensor.types import format_shape


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
        name, value = split_named(text, by_name, "--set", "VALUE")
        if name in found:
            raise UsageError(f"--set {text}: the input '{name}' is set twice")
        check_is_tensor(by_name[name])
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
    count = checked_count(spec, shape)
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
