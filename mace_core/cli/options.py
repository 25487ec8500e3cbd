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
        help="Option of a provider, like cpu.precision=bfloat16; may be repeated. `mace plugins` lists them.",
        show_default=False,
    ),
]
Inputs = Annotated[
    list[str],
    typer.Option(
        "--input",
        "-i",
        metavar="NAME=FILE",
        help="Value of an input, a .npy file or a picture; may be repeated. NAME= may be left out for one input.",
        show_default=False,
    ),
]
RandomInputs = Annotated[bool, typer.Option("--random", help="Fill the inputs that have no file with random numbers.")]
Seed = Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Seed of --random.")]
Layout = Annotated[
    str, typer.Option("--layout", metavar="NCHW|NHWC", help="Of pictures; without it, told from the shape.")
]
Mean = Annotated[
    str,
    typer.Option("--mean", metavar="M[,M,M]", help="Subtracted from pixels (0 to 255); one number or one per channel."),
]
Scale = Annotated[
    str,
    typer.Option("--scale", metavar="S[,S,S]", help="Then multiplied with; without it 1/255, or 1 for integer inputs."),
]
Resize = Annotated[
    str,
    typer.Option("--resize", metavar="WxH", help="Resize pictures; without it, to what the model's shape says."),
]
Bgr = Annotated[bool, typer.Option("--bgr", help="Give a picture's channels as blue, green, red.")]
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


def parse_provider_options(texts: list[str], threads: int = 0) -> dict[str, dict[str, object]] | None:
    """``PROVIDER.NAME=VALUE`` by provider (or device) and name; whole numbers, true and false are taken as such.

    Args:
        threads: of the cpu provider, from an option of their own; 0: not given.

    Raises:
        UsageError: for a text of another form.
    """
    found: dict[str, dict[str, object]] = {"cpu": {"threads": threads}} if threads else {}
    for text in texts:
        where, equals, value = text.partition("=")
        provider, dot, name = where.rpartition(".")
        if not (provider and dot and name and equals and value):
            raise UsageError(f"--option {text}: write it PROVIDER.NAME=VALUE, like cpu.affinity=big")
        found.setdefault(provider, {})[name] = _value(value)
    return found or None


def _value(text: str) -> object:
    if text.removeprefix("-").isdigit():
        return int(text)
    return {"true": True, "false": False}.get(text.lower(), text)


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
