"""The provider class: which HTPs are here or emulated here, and opening one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from mace_core.errors import ProviderError, UsageError
from mace_core.provider import ApiVersion, Backend, Device, DeviceKind, ExecutionProvider, Missing, ProbeResult
from mace_core.tensor import DType
from mace_hexagon import discovery
from mace_hexagon.targets import EMULATED, SOCS, Soc, find_soc
from mace_hexagon.version import VERSION

PRECISIONS = ("fp16", "float32")
NATIVE_ID = "htp"

_INTEGERS = frozenset({DType.UINT8, DType.INT8, DType.UINT16, DType.INT16, DType.INT32, DType.BOOL})
_FLOATS = frozenset({DType.FLOAT32, DType.FLOAT16})


class HexagonProvider(ExecutionProvider):
    """Qualcomm's Hexagon Tensor Processor through the QNN libraries; on a PC, their emulation of it."""

    name: ClassVar[str] = "hexagon"
    vendor: ClassVar[str] = "mace"
    version: ClassVar[str] = VERSION
    api_version: ClassVar[ApiVersion] = ApiVersion(1, 2)
    options: ClassVar[Mapping[str, str]] = {
        "precision": "how float32 is computed: fp16 (default), or float32 where the HTP can (the emulation can)",
        "library_dir": "folder of libQnnHtp.so, instead of the one found by itself",
        "largest_bucket": "sizes up to this are padded to powers of two (default 0: each is compiled for as it is)",
    }

    probe_options: ClassVar[frozenset[str]] = frozenset({"library_dir"})

    def probe(self) -> ProbeResult:
        return _describe(discovery.search())

    def probe_with(self, options: Mapping[str, object]) -> ProbeResult:
        _, library, _ = self._read(options)
        return self.probe() if library is None else _describe(discovery.Search(library, (), (library,)))

    def open(self, device: Device, options: Mapping[str, object]) -> Backend:
        precision, library, largest = self._read(options)
        if library is None:
            search = discovery.search()
            if search.library is None:
                reasons = "; ".join(f"{item.what}: {item.reason}" for item in search.missing)
                raise ProviderError(
                    f"{device.qualified_name} cannot be opened: {reasons}", device=device.qualified_name
                )
            library = search.library
        soc = find_soc(device.id)
        if soc is None and device.id != NATIVE_ID:
            raise UsageError(f"the hexagon provider knows no device '{device.id}'")
        from mace_hexagon.backend import HexagonBackend  # loads numpy-heavy lowering only when a device is opened
        from mace_hexagon.qnn.handles import QnnDevice, Target, arch_target, soc_target
        from mace_hexagon.qnn.library import load

        target: Target = ()
        if soc is not None:
            half = precision == "fp16"
            target = soc_target(soc.number) if half else arch_target(soc.arch, float_soc=EMULATED[68].number)
        qnn = QnnDevice(load(library, keep_started=device.is_virtual), device.qualified_name, target)
        try:
            floats = soc is None or soc.computes_floats
            half_precision = precision == "fp16" and floats
            return HexagonBackend(device, qnn, half_precision=half_precision, floats=floats, largest_bucket=largest)
        except BaseException:
            qnn.close()
            raise

    def _read(self, options: Mapping[str, object]) -> tuple[str, Path | None, int]:
        unknown = sorted(set(options) - set(self.options))
        if unknown:
            raise UsageError(f"the hexagon provider has no option '{unknown[0]}'; it knows {', '.join(self.options)}")
        precision = options.get("precision", PRECISIONS[0])
        if not isinstance(precision, str) or precision not in PRECISIONS:
            raise UsageError(f"the hexagon option 'precision' is one of {', '.join(PRECISIONS)}, not {precision!r}")
        largest = options.get("largest_bucket", 0)
        if isinstance(largest, bool) or not isinstance(largest, int) or largest < 0:
            raise UsageError(f"the hexagon option 'largest_bucket' takes a size, or 0 for no buckets, not {largest!r}")
        folder = options.get("library_dir")
        if folder is None:
            return str(precision), None, largest
        if not isinstance(folder, str | os.PathLike) or "\0" in os.fspath(folder):
            raise UsageError(f"the hexagon option 'library_dir' takes a folder, not {folder!r}")
        library = Path(folder, discovery.HTP_LIBRARY)
        problem = discovery.why_unusable(library)
        if problem is not None:
            raise UsageError(f"the hexagon option 'library_dir' does not fit: {problem}")
        return str(precision), library, largest


def _describe(search: discovery.Search) -> ProbeResult:
    """The devices a library brings, or why there are none."""
    missing = list(search.missing)
    devices: list[Device] = []
    if search.library is not None:
        found = str(search.library)
        if discovery.is_emulation():
            devices = [_emulated(soc) for _, soc in sorted(EMULATED.items())]
            devices += [_target(soc) for soc in SOCS]
            missing.append(
                Missing(
                    "Hexagon DSP",
                    f"there is no such unit in this x86 machine; {found} emulates it",
                    "name a device such as 'hexagon:v75' to use the emulation; its speed means nothing",
                )
            )
        elif discovery.has_dsp():
            devices = [_native(found)]
        else:
            missing.append(
                Missing("Hexagon DSP", "no FastRPC device node (/dev/fastrpc-cdsp, /dev/adsprpc-smd) is here", "")
            )
    watched = [str(path) for path in search.looked_at]
    return ProbeResult(tuple(devices), tuple(missing), tuple(watched), discovery.ENVIRONMENT)


def _emulated(soc: Soc) -> Device:
    return Device(
        provider="hexagon",
        id=f"v{soc.arch}",
        kind=DeviceKind.DSP,
        name=f"Hexagon HTP v{soc.arch}, emulated on this PC",
        vendor="Qualcomm",
        dtypes=_INTEGERS | _FLOATS if soc.computes_floats else _INTEGERS,
        is_virtual=True,
        properties={"soc": f"{soc.id} ({soc.name})"},
    )


def _target(soc: Soc) -> Device:
    return Device(
        provider="hexagon",
        id=soc.id,
        kind=DeviceKind.DSP,
        name=f"{soc.name} (HTP v{soc.arch})",
        vendor="Qualcomm",
        dtypes=_INTEGERS | _FLOATS if soc.computes_floats else _INTEGERS,
        is_virtual=True,
        can_execute=False,
    )


def _native(library: str) -> Device:
    return Device(
        provider="hexagon",
        id=NATIVE_ID,
        kind=DeviceKind.DSP,
        name="Hexagon HTP",
        vendor="Qualcomm",
        dtypes=_INTEGERS | _FLOATS,
        properties={"library": library},
    )
