"""What a case is: a function of TensorFlow, its inputs, and the forms it is converted to."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

Array = npt.NDArray[Any]
Feeds = dict[str, Array]

FLOAT = ("float32",)
WEIGHTS = ("float32", "float16", "dynamic", "int8", "int16x8")
"""For what has weights."""
ACTIVATIONS = ("float32", "int8", "int16x8")
"""For what has none."""
ALL = ("float32", "float16", "dynamic", "int8", "int8_float", "int8_per_tensor", "uint8", "int16x8")
SELECT_TF = ("select_tf",)


@dataclass
class Built:
    """A function that can be converted.

    Attributes:
        function: takes tensors in the order of ``specs``.
        specs: of the inputs, with names; a size of None is free.
        feeds: for each run, the inputs by name.  Shapes may differ from run to run where sizes are free.
        owner: holds the variables.
        signatures: further signatures, by key: concrete functions of ``owner``, which has to be a tf.Module then.
        is_stateful: variables stay variables; else they become constants.
        signature: the key of the one that ``feeds`` are for.
        samples: how many are calibrated with.
    """

    function: Callable[..., Any]
    specs: Sequence[tf.TensorSpec]
    feeds: Sequence[Feeds]
    owner: Any = None
    signatures: dict[str, Any] | None = None
    is_stateful: bool = False
    signature: str = "serving_default"
    samples: int = 8


@dataclass(frozen=True)
class Case:
    """A model by its name.  ``build`` makes it; ``forms`` are those it is converted to."""

    name: str
    build: Callable[[], Built]
    forms: Sequence[str]


CASES: dict[str, Case] = {}


def case(name: str, forms: Sequence[str] = FLOAT) -> Callable[[Callable[[], Built]], Callable[[], Built]]:
    """Register the function that builds a case."""

    def register(build: Callable[[], Built]) -> Callable[[], Built]:
        assert name not in CASES, name
        CASES[name] = Case(name, build, forms)
        return build

    return register


def random_of(name: str) -> np.random.Generator:
    """The same numbers for a name, always."""
    return np.random.default_rng(zlib.crc32(name.encode()))


def drawn(spec: tf.TensorSpec, name: str, batch: int, low: float, high: float) -> Array:
    """Values of a specification, with ``batch`` in the place of its free sizes."""
    random = random_of(f"{name}/{spec.name}/{batch}")
    shape = [batch if size is None else size for size in spec.shape]
    kind = np.dtype(spec.dtype.as_numpy_dtype)
    if kind.kind == "b":
        return np.asarray(random.random(shape) < 0.5)
    if kind.kind in "iu":
        return np.asarray(random.integers(int(low), int(high) + 1, shape), kind)
    if kind.kind == "c":
        return np.asarray(random.uniform(low, high, shape) + 1j * random.uniform(low, high, shape), kind)
    return np.asarray(random.uniform(low, high, shape), kind)


def built(
    name: str,
    function: Callable[..., Any],
    *specs: tuple[Sequence[int | None], Any],
    low: float = -2,
    high: float = 2,
    batches: Sequence[int] = (1, 3),
    owner: Any = None,
    feeds: Sequence[Sequence[Any]] = (),
    is_stateful: bool = False,
) -> Built:
    """A function of inputs called x0, x1 and so on, fed with numbers between ``low`` and ``high`` or with ``feeds``."""
    made = [tf.TensorSpec(shape, dtype, name=f"x{at}") for at, (shape, dtype) in enumerate(specs)]
    if feeds:
        runs = [
            {spec.name: np.asarray(value, spec.dtype.as_numpy_dtype) for spec, value in zip(made, run, strict=True)}
            for run in feeds
        ]
    else:
        free = any(size is None for spec in made for size in spec.shape)
        runs = [
            {spec.name: drawn(spec, name, batch, low, high) for spec in made} for batch in (batches if free else (1, 2))
        ]
        if not free:
            for spec in made:  # the shapes are the same; the numbers are not
                runs[1][spec.name] = drawn(spec, f"{name}/again", 1, low, high)
    return Built(function, made, runs, owner, is_stateful=is_stateful)


def function(
    name: str,
    call: Callable[..., Any],
    *specs: tuple[Sequence[int | None], Any],
    forms: Sequence[str] = FLOAT,
    **more: Any,
) -> None:
    """Register a plain function of tensors."""
    case(name, forms)(lambda: built(name, call, *specs, **more))


def layer(
    name: str,
    make: Callable[[], Any],
    *shapes: Sequence[int | None],
    forms: Sequence[str] = FLOAT,
    dtype: Any = tf.float32,
    batch: int | None = None,
    **more: Any,
) -> None:
    """Register a Keras layer; ``shapes`` are those of its inputs without the batch, which is free by default."""

    def build() -> Built:
        tf.keras.utils.set_random_seed(zlib.crc32(name.encode()) % 2**31)
        made = make()

        def call(*values: Any) -> Any:
            return made(values[0] if len(shapes) == 1 else list(values))

        return keras(name, call, *(((batch, *shape), dtype) for shape in shapes), **more)

    case(name, forms)(build)


def keras(name: str, call: Callable[..., Any], *specs: tuple[Sequence[int | None], Any], **more: Any) -> Built:
    """What Keras layers make of inputs, as a Keras model."""
    inputs = [tf.keras.Input(batch_shape=shape, dtype=dtype, name=f"x{at}") for at, (shape, dtype) in enumerate(specs)]
    model = tf.keras.Model(inputs, call(*inputs))
    spread(model)
    return built(name, model, *specs, owner=model, **more)


def spread(made: Any) -> None:
    """Give weights that begin as zeros or ones (biases, statistics) values of their own."""
    for number, weight in enumerate(getattr(made, "weights", ())):
        values = np.asarray(weight)
        if values.dtype.kind != "f" or not values.size or np.ptp(values) > 0:
            continue
        random = random_of(f"{number}/{values.shape}")
        noise = random.uniform(0.5, 1.5, values.shape) if np.all(values == 1) else random.normal(0, 0.3, values.shape)
        weight.assign(noise.astype(values.dtype))
