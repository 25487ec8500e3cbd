"""The inputs and outputs of a model as the flags of ``mace_run`` describe them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mace_core.deployment.values import nearest, shape
from mace_core.errors import UsageError, shorten
from mace_core.scheduler.planning.specs import ValueSpec
from mace_core.tensor import DType

_TO_FIRST, _TO_LAST = (0, 3, 1, 2), (0, 2, 3, 1)


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output as the flags describe it.

    Attributes:
        spec: of the model.
        shape: of the data in files.
        dtype: of the data that the model is given, or gives.
        order: axes of the data in those of the model (an input), or the other way round (an output).
    """

    spec: ValueSpec
    shape: tuple[int, ...]
    dtype: DType
    order: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        return self.spec.name


def chosen_specs(text: str, known: Sequence[ValueSpec], default: Sequence[ValueSpec], flag: str) -> list[ValueSpec]:
    """The tensors that a flag names, ``default`` where it names none.

    Raises:
        UsageError: for a name that the model does not have, or twice.
    """
    names = [part.strip() for part in text.split(",") if part.strip()]
    if not names:
        return list(default)
    by_name = {spec.name: spec for spec in known}
    found = []
    for name in names:
        spec = next((by_name[each] for each in (name, name.removesuffix(":0"), f"{name}:0") if each in by_name), None)
        if spec is None:
            near = nearest(name, list(by_name))
            meant = f"; did you mean '{near}'?" if near else f": {', '.join(by_name)}"
            raise UsageError(f"--{flag}: the model has no '{shorten(name)}'{meant}")
        if spec in found:
            raise UsageError(f"--{flag} names '{shorten(name)}' twice")
        found.append(spec)
    return found


def input_tensor(spec: ValueSpec, text: str, form: str) -> Tensor:
    """An input whose shape a flag says; the model's where ``text`` is empty.

    Raises:
        UsageError: if the shape does not fit, or is needed and not given.
    """
    own, dtype = spec.shape, spec.dtype
    if not text:
        if own is None or not all(isinstance(size, int) for size in own):
            raise UsageError(f"--input_shape is needed: the input '{spec}' has free dimensions")
        return Tensor(spec, tuple(size for size in own if isinstance(size, int)), dtype)
    given = _shape(text, "input_shape")
    for order in _orders(given, form, _TO_FIRST, _TO_LAST):
        turned = tuple(given[axis] for axis in order) if order else given
        if own is None or (
            len(own) == len(turned)
            and all(not isinstance(size, int) or size == each for size, each in zip(own, turned, strict=True))
        ):
            return Tensor(spec, given, dtype, order)
    raise UsageError(f"--input_shape: {text} does not fit the input '{spec}'")


def output_tensor(spec: ValueSpec, text: str, form: str) -> Tensor:
    """An output whose shape a flag says; as the model gives it where ``text`` is empty.

    Raises:
        UsageError: if the shape does not fit.
    """
    own = spec.shape
    if not text or own is None or not all(isinstance(size, int) for size in own):
        return Tensor(spec, (), spec.dtype)
    given = _shape(text, "output_shape")
    for order in _orders(own, form, _TO_LAST, _TO_FIRST):
        turned = tuple(own[axis] for axis in order) if order else own
        if turned == given:
            return Tensor(spec, given, spec.dtype, order)
    if math.prod(given) == math.prod(size for size in own if isinstance(size, int)):
        return Tensor(spec, given, spec.dtype)  # the numbers are the same, in the same order
    raise UsageError(f"--output_shape: {text} does not fit the output '{spec}'")


def _orders(
    given: Sequence[object], form: str, first: tuple[int, ...], last: tuple[int, ...]
) -> tuple[tuple[int, ...], ...]:
    """As it is, and turned from the layout that the flag says to the other one."""
    if len(given) != 4 or form not in ("NHWC", "NCHW"):
        return ((),)
    return (), first if form == "NHWC" else last


def _shape(text: str, flag: str) -> tuple[int, ...]:
    try:
        return shape(text)
    except ValueError as error:
        raise UsageError(f"--{flag} {error}") from None
