"""Sizes assumed for the dimensions that a model leaves free, where nobody gives them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

from mace_core.errors import MaceError, ProviderError, StrictPlacementError, UsageError
from mace_core.graph import Value
from mace_core.tensor import TensorType

PICTURE_SIDES = (224, 320, 640, 32, 64, 256, 512, 1)
"""Heights and widths, likely ones first: usual inputs of classifiers and detectors, multiples of the usual strides."""

SEQUENCE_LENGTHS = (128, 64, 32, 16, 1, 512, 16000, 224, 320)
"""Tokens, frames or samples; the large one is a second of sound."""

PICTURE_CHANNELS = (3, 1, 4)

MOST_TRIED = 24
"""Combinations of them that are tried before giving up: each costs a resolution of all shapes."""

_CHOICES = {
    "batch": (1,),
    "channels": PICTURE_CHANNELS,
    "side": PICTURE_SIDES,
    "past": (16, 1, 0),
    "length": SEQUENCE_LENGTHS,
}
_BATCH_NAME = re.compile(r"(?i)(^|_)(batch|bs|n)(_|\d|$)|batch")
_SEQUENCE_NAME = re.compile(r"(?i)seq|len|token|time|frame|past|sample|audio")
_PAST_NAME = re.compile(r"(?i)past")
_SUM = re.compile(r"\s*\w+(\s*[+*-]\s*\w+)+\s*")


@dataclass(frozen=True, slots=True)
class AssumedShapes:
    """A shape for every tensor input of a model.

    Attributes:
        shapes: by input name, those given among them.
        sizes: what had to be assumed: dimension (its symbol, or ``input[axis]``) -> size.
        free: inputs with such dimensions.
    """

    shapes: Mapping[str, tuple[int, ...]]
    sizes: Mapping[str, int] = field(default_factory=dict)
    free: tuple[str, ...] = ()

    @property
    def note(self) -> str:
        """``height=224, x[3]=224``; "" if nothing was assumed."""
        return ", ".join(f"{name}={size}" for name, size in self.sizes.items())

    @property
    def arguments(self) -> str:
        """Options for the command line that set the shapes of the inputs with sizes assumed:
        ``--shape x=1x3x224x224``."""
        return " ".join(shape_argument(name, self.shapes[name]) for name in self.free)


def shape_argument(name: str, shape: Sequence[int]) -> str:
    """``--shape x=1x3x224x224``, quoted for a shell where the name needs it."""
    text = f"{name}={'x'.join(map(str, shape)) or 'scalar'}"
    plain = re.fullmatch(r"[\w./:=@%+,-]+", text)
    return f"--shape {text}" if plain else "--shape '" + text.replace("'", "'\\''") + "'"


def assumed_shapes(inputs: Sequence[Value], given: Mapping[str, tuple[int, ...]]) -> Iterator[AssumedShapes]:
    """Shapes to try, the likeliest first; a single one where nothing is left to assume.

    A free dimension gets a size by what it probably is: the batch 1, sides of pictures and lengths of sequences the
    usual ones. A symbol has one size wherever it stands, and one that is a sum of others (``past + 1``) is computed.

    Args:
        inputs: of the graph.
        given: shapes that are decided already; the sizes of their symbols hold for the other inputs too.

    Raises:
        UsageError: if an input has an unknown number of dimensions and is not given.
    """
    unranked = [value for value in inputs if isinstance(value.type, TensorType) and value.type.shape is None]
    for value in unranked:
        if value.name not in given:
            raise UsageError(
                f"the model does not say how many dimensions the input '{value.name}' has: give its shape, such as "
                f"{shape_argument(value.name, (1, 3, 224, 224))} on the command line"
            )
    tensors = [(value.name, value.type) for value in inputs if isinstance(value.type, TensorType)]
    decided: dict[str, int] = {}
    for name, kind in tensors:
        if name in given and kind.shape is not None and len(kind.shape) == len(given[name]):
            decided |= {dim: size for dim, size in zip(kind.shape, given[name], strict=True) if isinstance(dim, str)}
    roles: dict[str, str] = {}
    for name, kind in tensors:
        if name not in given:
            for axis, dim in enumerate(kind.shape or ()):
                key = _key(name, axis, dim)
                if not isinstance(dim, int) and key not in decided:
                    roles.setdefault(key, _role(kind, axis, dim))
    free_inputs = tuple(
        name
        for name, kind in tensors
        if name not in given and any(_key(name, axis, dim) in roles for axis, dim in enumerate(kind.shape or ()))
    )
    computed = [key for key in roles if _SUM.fullmatch(key)]
    free = [role for role in _CHOICES if any(roles[key] == role for key in roles if key not in computed)]
    for choice in _combinations([_CHOICES[role] for role in free]):
        size_of = dict(zip(free, choice, strict=True))
        sizes = {key: size_of[role] for key, role in roles.items() if key not in computed}
        sizes |= {key: _evaluate(key, {**decided, **sizes}, size_of.get(roles[key], 1)) for key in computed}
        sizes |= _totals({**decided, **sizes}, roles)
        known = {**decided, **sizes}
        shapes = {
            name: given[name]
            if name in given
            else tuple(
                dim if isinstance(dim, int) else known[_key(name, axis, dim)]
                for axis, dim in enumerate(kind.shape or ())
            )
            for name, kind in tensors
        }
        yield AssumedShapes(shapes, sizes, free_inputs)


def first_taken(
    candidates: Iterable[AssumedShapes], plan: Callable[[Mapping[str, tuple[int, ...]]], None], *, model: str
) -> AssumedShapes:
    """The first of some candidates that can be planned; one that assumes nothing is not tried.

    Args:
        candidates: at least one.
        plan: raises where a model does not take these shapes.
        model: how messages call it.

    Raises:
        UsageError: if it takes none of them; the message has a shape to start from.
        StrictPlacementError, ProviderError: of ``plan``; another size would not help.
    """
    failure: MaceError | None = None
    first: AssumedShapes | None = None
    for candidate in candidates:
        if not candidate.sizes:
            return candidate
        first = first or candidate
        try:
            plan(candidate.shapes)
        except (StrictPlacementError, ProviderError, UsageError):
            raise
        except MaceError as error:
            failure = failure or error
        else:
            return candidate
    assert first is not None, "there is always a first candidate"
    raise UsageError(
        f"{model} has free dimensions and takes none of the sizes tried for them ({failure}); "
        f"give the shapes yourself, such as {first.arguments} on the command line"
    )


def _key(name: str, axis: int, dim: object) -> str:
    return dim if isinstance(dim, str) else f"{name}[{axis}]"


def _role(kind: TensorType, axis: int, symbol: object) -> str:
    """What a free dimension probably is: "batch", "channels", "side", "past" or "length"."""
    shape = kind.shape or ()
    if isinstance(symbol, str):
        if _PAST_NAME.search(symbol):
            return "past"
        if _SEQUENCE_NAME.search(symbol):
            return "length"
        if _BATCH_NAME.search(symbol):
            return "batch"
    if axis == 0 and len(shape) > 1:
        return "batch"
    if len(shape) >= 4:
        last_is_channels = shape[-1] in PICTURE_CHANNELS and shape[1] not in PICTURE_CHANNELS
        if axis == (len(shape) - 1 if last_is_channels else 1):
            return "channels"
        return "side"
    if len(shape) == 3 and axis == 1 and isinstance(shape[0], int) and shape[0] > 1 and isinstance(shape[2], int):
        return "batch"  # the state of a recurrent layer: (directions, batch, hidden)
    if len(shape) == 3 and shape[0] in PICTURE_CHANNELS and axis > 0 and not isinstance(shape[3 - axis], int):
        return "side"
    return "length"


def _combinations(choices: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """One of each, those that take all of them from the front first."""
    ranked = sorted(product(*(range(len(options)) for options in choices)), key=lambda ranks: (sum(ranks), ranks))
    return [tuple(options[k] for options, k in zip(choices, ranks, strict=True)) for ranks in ranked[:MOST_TRIED]]


def _evaluate(text: str, sizes: Mapping[str, int], otherwise: int) -> int:
    """A sum, difference or product of symbols and numbers, from left to right."""
    total, sign = 0, "+"
    for token in re.findall(r"\w+|[+*-]", text):
        if token in "+*-":
            sign = token
            continue
        number = int(token) if token.isdigit() else sizes.get(token)
        if number is None:
            return otherwise
        total = total + number if sign == "+" else total - number if sign == "-" else total * number
    return max(total, 0)


def _totals(sizes: Mapping[str, int], roles: Mapping[str, str]) -> dict[str, int]:
    """``total_sequence_length`` is the past and the present, in every exporter's names."""
    past = next((size for name, size in sizes.items() if roles.get(name) == "past" and "+" not in name), None)
    present = next(
        (size for name, size in sizes.items() if roles.get(name) == "length" and "total" not in name.lower()), None
    )
    if past is None or present is None:
        return {}
    return {name: past + present for name, role in roles.items() if role == "length" and "total" in name.lower()}
