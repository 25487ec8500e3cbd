"""Which function turns which operator of TensorFlow Lite into nodes.

A module of `mace_core.frontend.tflite.operators` holds those of one family.  Put another module there and it is used;
nothing else has to be changed::

    @converter("LEAKY_RELU", options="LeakyReluOptions")
    def leaky_relu(op: Operation) -> None:
        op.finish(op.emit("LeakyRelu", [op.real(0)], {"alpha": op.option("Alpha")}))
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from mace_core.frontend.tflite.operation import Operation
    from mace_core.tensor import DType

Convert: TypeAlias = "Callable[[Operation], None]"
"""Appends the nodes of one operator and gives its outputs."""


@dataclass(frozen=True, slots=True)
class Converter:
    """How one operator is imported.

    Attributes:
        convert: for every element type, quantized ones by computing in float between dequantizing and quantizing.
        options: the type of its table of options; "" for none.
    """

    convert: Convert
    options: str


_CONVERTERS: dict[str, Converter] = {}
_SIXTEEN_BITS: dict[str, Converter] = {}
_CUSTOM: dict[str, Converter] = {}


def converter(*names: str, options: str = "") -> Callable[[Convert], Convert]:
    """Register how builtin operators are imported.

    Args:
        names: of the builtins (``CONV_2D``).
        options: the type of their table of options (``Conv2DOptions``).
    """
    return _registration(_CONVERTERS, names, options)


def sixteen_bit_converter(*names: str, options: str = "") -> Callable[[Convert], Convert]:
    """Register how builtin operators are imported where their first output, or first input, is quantized in 16 bits.

    LiteRT's kernels for them take lines between the places of tables, which are many steps from the function itself.
    """
    return _registration(_SIXTEEN_BITS, names, options)


def custom_converter(*names: str) -> Callable[[Convert], Convert]:
    """Register how custom operators of these names are imported."""
    return _registration(_CUSTOM, names, "")


def find_converter(name: str, *, is_custom: bool, integers: DType | None) -> Converter | None:
    """The converter of an operator; None where there is none.

    Args:
        name: of the builtin, or of the custom operator.
        integers: the element type of quantized numbers that it is about; None for others.
    """
    _import_families()
    if is_custom:
        return _CUSTOM.get(name)
    if integers is not None and integers.name == "INT16" and name in _SIXTEEN_BITS:
        return _SIXTEEN_BITS[name]
    return _CONVERTERS.get(name)


def converted_operators() -> tuple[str, ...]:
    """The builtin operators that are imported, in alphabetical order."""
    _import_families()
    return tuple(sorted({*_CONVERTERS, *_SIXTEEN_BITS}))


def _registration(table: dict[str, Converter], names: tuple[str, ...], options: str) -> Callable[[Convert], Convert]:
    def register(convert: Convert) -> Convert:
        for name in names:
            if name in table:
                raise ValueError(f"two converters for {name}")
            table[name] = Converter(convert, options)
        return convert

    return register


@functools.cache
def _import_families() -> None:
    from mace_core.frontend.tflite import operators

    for module in pkgutil.iter_modules(operators.__path__):
        importlib.import_module(f"{operators.__name__}.{module.name}")
