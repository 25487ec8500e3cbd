"""The driver class: the chips that rknn-toolkit2 simulates, and opening one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from mace_core.errors import ProviderError, UsageError
from mace_core.provider import Backend, Device, DeviceKind, Missing, ProbeResult
from mace_core.tensor import DType
from mace_npu.driver import NpuDriver
from mace_npu.rockchip import discovery

CHIPS = ("rk3562", "rk3566", "rk3568", "rk3576", "rk3588")
"""Chips of the second generation, which the toolkit builds for."""

DEFAULT_SECONDS = 600.0


class RockchipDriver(NpuDriver):
    """Rockchip's NPUs, as simulated on a PC by the vendor's rknn-toolkit2."""

    name: ClassVar[str] = "rockchip"
    options: ClassVar[Mapping[str, str]] = {
        "python": "the Python of the environment with rknn-toolkit2, instead of MACE_RKNN_PYTHON",
        "export": "a folder for the files that the toolkit makes for the chip (.rknn); those of the same name go",
        "timeout": f"seconds after which a request is given up and the worker replaced (default {DEFAULT_SECONDS:g})",
    }
    probe_options: ClassVar[frozenset[str]] = frozenset({"python"})

    def probe(self, options: Mapping[str, object]) -> ProbeResult:
        python = _python(options)
        missing: list[Missing] = []
        devices: list[Device] = []
        if python is None:
            missing.append(Missing("rknn-toolkit2", f"{discovery.VARIABLE} is not set", discovery.HINT))
        elif problem := discovery.why_unusable(python):
            missing.append(Missing("rknn-toolkit2", problem, discovery.HINT))
        else:
            devices = [_simulated(chip) for chip in CHIPS]
            missing.append(
                Missing(
                    "Rockchip NPU",
                    "this version runs models on the vendor's simulator only",
                    f"name a device such as 'npu:{devices[-1].id}' to use it; its speed means nothing",
                )
            )
        watched = [] if python is None else [str(python), str(python.parent.parent / "lib")]
        return ProbeResult(tuple(devices), tuple(missing), tuple(watched), (discovery.VARIABLE,))

    def check(self, options: Mapping[str, object]) -> None:
        _seconds(options)
        _python(options)
        _path(options, "export", "a folder")

    def open(self, device: Device, options: Mapping[str, object]) -> Backend:
        chip = device.id.removeprefix(f"{self.name}-")
        if chip not in CHIPS:
            raise UsageError(f"the npu provider knows no device '{device.id}'")
        seconds = _seconds(options)
        python = _python(options)
        problem = f"{discovery.VARIABLE} is not set" if python is None else discovery.why_unusable(python)
        if python is None or problem is not None:
            raise ProviderError(
                f"{device.qualified_name} cannot be opened: {problem}; {discovery.HINT}", device=device.qualified_name
            )
        from mace_npu.rockchip.backend import RockchipBackend

        return RockchipBackend(device, chip, python, seconds, _path(options, "export", "a folder"))


def _seconds(options: Mapping[str, object]) -> float:
    seconds = options.get("timeout", DEFAULT_SECONDS)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
        raise UsageError(f"the npu option 'rockchip_timeout' takes a number of seconds, not {seconds!r}")
    return float(seconds)


def _python(options: Mapping[str, object]) -> Path | None:
    return _path(options, "python", "a Python") or discovery.interpreter()


def _path(options: Mapping[str, object], name: str, what: str) -> Path | None:
    given = options.get(name)
    if given is None:
        return None
    if not isinstance(given, str | os.PathLike) or not os.fspath(given) or "\0" in os.fspath(given):
        raise UsageError(f"the npu option 'rockchip_{name}' takes the path of {what}, not {given!r}")
    return Path(given)


def _simulated(chip: str) -> Device:
    return Device(
        provider="npu",
        id=f"rockchip-{chip}",
        kind=DeviceKind.NPU,
        name=f"Rockchip {chip.upper()}, simulated on this PC",
        vendor="Rockchip",
        dtypes=frozenset({DType.FLOAT32, DType.FLOAT16}),
        is_virtual=True,
    )
