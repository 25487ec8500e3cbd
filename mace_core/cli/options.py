"""Options that several sub-commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from mace_core.errors import UsageError

Model = Annotated[str, typer.Argument(metavar="MODEL", help="The model file.", show_default=False)]
Devices = Annotated[
    list[str],
    typer.Option(
        "--device",
        "-d",
        metavar="NAME",
        help="Device to use; may be repeated, in order of preference. 'cpu' is the provider's first real device, "
        "'opencl:0' that very one. Without it: all real devices (see `mace devices`).",
        show_default=False,
    ),
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Fail if a node can not run on the devices named, instead of falling back.")
]
Pins = Annotated[
    list[str],
    typer.Option(
        "--pin", metavar="NODE=DEVICE", help="Put one node on one device; may be repeated.", show_default=False
    ),
]
Threads = Annotated[
    int, typer.Option("--threads", metavar="N", min=0, help="Threads of the cpu provider; 0: what the machine allows.")
]
Shapes = Annotated[
    list[str],
    typer.Option(
        "--shape",
        metavar="NAME=1x3x48x320",
        help="Shape of an input with open dimensions; may be repeated. NAME= may be left out if there is one input.",
        show_default=False,
    ),
]
ProviderOptions = Annotated[
    list[str],
    typer.Option(
        "--option",
        "-O",
        metavar="PROVIDER.NAME=VALUE",
        help="Option of a provider, like cpu.precision=bfloat16; may be repeated (see `mace doctor`).",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else on standard output.")]


def parse_pins(texts: list[str]) -> dict[str, str]:
    """``NODE=DEVICE`` by node; the node's name may itself hold a ``=``.

    Raises:
        UsageError: for a text of another form.
    """
    pins: dict[str, str] = {}
    for text in texts:
        node, equals, device = text.rpartition("=")
        if not equals or not node or not device:
            raise UsageError(f"--pin {text}: write it NODE=DEVICE")
        pins[node] = device
    return pins


def parse_provider_options(texts: list[str], threads: int = 0) -> dict[str, dict[str, object]]:
    """``PROVIDER.NAME=VALUE`` by provider and name; ``threads`` is the cpu's, 0 leaves it.

    Whole numbers become numbers, true and false truth values.

    Raises:
        UsageError: for a text of another form.
    """
    found: dict[str, dict[str, object]] = {"cpu": {"threads": threads}} if threads else {}
    for text in texts:
        key, equals, value = text.partition("=")
        provider, dot, name = key.partition(".")
        if not (equals and dot and provider and name and value):
            raise UsageError(f"--option {text}: write it PROVIDER.NAME=VALUE, like cpu.precision=bfloat16")
        typed = {"true": True, "false": False}.get(value, int(value) if value.isdigit() else value)
        found.setdefault(provider, {})[name] = typed
    return found


def parse_numbers(option: str, text: str) -> tuple[float, ...] | None:
    """``0.5`` or ``0.485,0.456,0.406``; None for "".

    Raises:
        UsageError: if it is something else.
    """
    if not text:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{option} {text}: write one number, or one per channel with commas between") from None


def parse_size(text: str) -> tuple[int, int] | None:
    """``640x480`` (width x height); None for "".

    Raises:
        UsageError: if it is something else.
    """
    if not text:
        return None
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise UsageError(f"--resize {text}: write it WIDTHxHEIGHT, like 640x480")
    return int(width), int(height)
