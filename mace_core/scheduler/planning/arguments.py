"""Checks the arguments of a session that Python's own errors would explain badly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from mace_core.errors import InputTypeError, UsageError, UsageTypeError
from mace_core.scheduler.planning.pins import shares_of


def device_names(devices: object) -> list[str] | None:
    """The devices named, or None for all real ones.

    Raises:
        UsageError: if it is not a sequence of names, or an empty one.
    """
    if devices is None:
        return None
    names = [devices] if isinstance(devices, str) else _names(devices)
    if names is None:
        raise UsageTypeError(f"devices are names such as 'cpu' or 'opencl:0', not {devices!r}")
    if not names:
        raise UsageError("devices is empty: name at least one, or give None for all real devices")
    return names


def output_names(outputs: object) -> list[str] | None:
    """The outputs wanted, or None for all.

    Raises:
        UsageError: if it is not a sequence of names.
    """
    if outputs is None:
        return None
    names = [outputs] if isinstance(outputs, str) else _names(outputs)
    if names is None:
        raise UsageTypeError(f"outputs are a list of names, not {outputs!r}")
    return names


def check_call(feeds: object, outputs: object, inputs: Sequence[str], model: str) -> None:
    """Whether a run is called as it should be; where onnxruntime's order or bare arrays come, the right call is shown.

    Args:
        inputs: names of the model's inputs.

    Raises:
        InputTypeError: with the call that is probably meant.
    """
    if isinstance(feeds, Mapping):
        return
    example = "{" + ", ".join(f"{name!r}: array" for name in inputs[:3]) + (", …}" if len(inputs) > 3 else "}")
    if isinstance(outputs, Mapping) and (feeds is None or _names(feeds) is not None):
        wanted = "" if feeds is None else f", outputs={_names(feeds)!r}"
        keys = "{" + ", ".join(f"{name!r}: …" for name in outputs) + "}"
        raise InputTypeError(
            f"{model}: run takes the inputs first and then the outputs wanted, not in onnxruntime's order: "
            f"session.run({keys}{wanted})"
        )
    raise InputTypeError(
        f"{model}: run takes a mapping from input name to value, not {_kind_of(feeds)}: session.run({example})"
    )


def _kind_of(given: object) -> str:
    if given is None:
        return "None"
    if isinstance(given, list | tuple):
        kinds = ", ".join(dict.fromkeys(type(item).__name__ for item in given))
        return f"a {type(given).__name__} of {kinds or 'nothing'}"
    return f"a bare {type(given).__name__}"


def check_options(options: object) -> None:
    """
    Raises:
        UsageError: if it is not a mapping from provider to a mapping.
    """
    if options is None:
        return
    if not isinstance(options, Mapping):
        raise UsageTypeError(
            f'options are a mapping from provider to its options, such as {{"cpu": {{"threads": 2}}}}, not {options!r}'
        )
    for name, given in options.items():
        if not isinstance(name, str):
            raise UsageTypeError(f"options are given by provider, a name such as 'cpu', not {name!r}")
        if isinstance(given, Mapping) and not all(isinstance(option, str) for option in given):
            raise UsageTypeError(f"options of '{name}' have names, such as 'threads', not {list(given)!r}")
        if not isinstance(given, Mapping):
            raise UsageTypeError(f"options of '{name}' are a mapping from option to value, not {type(given).__name__}")


def check_pins(pins: object) -> None:
    """
    Raises:
        UsageError: if it is not a mapping from node to device.
    """
    if pins is None:
        return
    if not isinstance(pins, Mapping) or not all(isinstance(t, str) for pair in pins.items() for t in pair):
        raise UsageTypeError(f'pins are a mapping from node to device, such as {{"conv1": "cpu"}}, not {pins!r}')
    for pin in pins.values():
        shares_of(pin)


def check_numerics_option(wanted: object) -> str:
    """What ``check_numerics`` asks for: "", "nan" or "all".

    Raises:
        UsageError: if it is something else.
    """
    if wanted is False or wanted is None:
        return ""
    if wanted is True:
        return "all"
    if wanted in ("nan", "all"):
        return str(wanted)
    raise UsageError(f"check_numerics is True, False, 'nan' (infinities are fine) or 'all', not {wanted!r}")


def check_max_signatures(count: object) -> None:
    """
    Raises:
        UsageError: if it is not a positive whole number.
    """
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise UsageError(f"max_signatures must be at least 1, not {count!r}")


def shape_of(name: str, shape: Sequence[int]) -> tuple[int, ...]:
    """A shape given by a user.

    Raises:
        UsageError: if it is not a sequence of sizes.
    """
    try:
        sizes = tuple(int(size) for size in shape)
    except (TypeError, ValueError):
        raise UsageTypeError(
            f"the shape of '{name}' is a sequence of sizes such as (1, 3, 224, 224), not {shape!r}"
        ) from None
    if any(size < 0 for size in sizes):
        raise UsageError(f"the shape of '{name}' has a negative size: {list(sizes)}")
    return sizes


def check_shapes(shapes: object) -> None:
    """
    Raises:
        UsageError: if it is not a mapping.
    """
    if not isinstance(shapes, Mapping):
        raise UsageTypeError(f"shapes are a mapping from input name to shape, not {shapes!r}")


def _names(given: object) -> list[str] | None:
    """The strings of an iterable; None if it is something else."""
    if not isinstance(given, Iterable) or isinstance(given, bytes):
        return None
    names = list(given)
    return names if all(isinstance(name, str) for name in names) else None
