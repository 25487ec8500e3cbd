"""Where the networks run: the stand-ins and simulators that this project is verified on, or a device that is named."""

from __future__ import annotations

import importlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from mace_core.errors import DeviceNotFoundError, PluginError
from mace_core.provider.device import Device
from mace_core.provider.inventory import find_device

_APU_TESTS = Path(__file__).parents[2] / "plugins" / "apu" / "tests"
_NEURON = "MACE_NEURON_LIB_DIR"


@dataclass(frozen=True, slots=True)
class Place:
    """A device and how close to the CPU provider it is to be.

    Attributes:
        device: its name for `--device`.
        tolerance: the largest difference to the CPU provider that its arithmetic allows, as a part of the range.
        networks: names of those that run there; empty for all.
        by_layers: whether a quantized value can be an input or a result there, so that quantized layers can be
            compared one by one.
    """

    device: str
    tolerance: float
    networks: tuple[str, ...] = ()
    by_layers: bool = True


HALF = 1e-2
"""Of devices that compute in float16, over tens of layers."""
SINGLE = 1e-4
"""Of those that compute in float32."""

PLACES = (
    Place("apu:stand-in", HALF),
    Place("npu:openvino-cpu", SINGLE),
    Place("hexagon:v75", HALF),
    Place("npu:rockchip-rk3588", HALF, ("mobilenet_v2", "mobilenet_v2 int8"), by_layers=False),
)
"""What this project is verified on; none of them is an accelerator."""


def place(device: str) -> Place:
    """The one of that name; a device that is not among them is taken to compute in float16."""
    return next((known for known in PLACES if known.device == device), Place(device, HALF))


def look_for(place: Place) -> Device | str:
    """The device, or why it is not here.  The stand-in for MediaTek's library is built where that is asked for."""
    wants_stand_in = place.device == "apu:stand-in" and _NEURON not in os.environ
    if wants_stand_in and (problem := _build_stand_in()) is not None:
        return problem
    try:
        return find_device(place.device)
    except (DeviceNotFoundError, PluginError) as error:
        return str(error)


def _build_stand_in() -> str | None:
    """Build it as its tests do, and name its folder; why not, if that cannot be done."""
    if not _APU_TESTS.is_dir():
        return f"the sources of the stand-in are not in {_APU_TESTS}"
    sys.path.insert(0, str(_APU_TESTS))
    try:
        support = importlib.import_module("apu_support")
    except ImportError as error:
        return f"the stand-in cannot be built: {error}; pip install ./plugins/apu"
    finally:
        sys.path.remove(str(_APU_TESTS))
    if support.compiler() is None:
        return "no C compiler is here to build the stand-in (cc, gcc or clang)"
    os.environ[_NEURON] = str(support.build())
    return None
