"""The provider class: which HTPs are here or emulated here, and opening one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from mace_core.errors import ProviderError, UsageError
from mace_core.provider import (
    Allocator,
    ApiVersion,
    Backend,
    Device,
    DeviceKind,
    ExecutionProvider,
    Missing,
    ProbeResult,
)
from mace_core.tensor import DType
from mace_hexagon import discovery
from mace_hexagon.options import AUTO, DESCRIPTIONS, OFF, read
from mace_hexagon.targets import EMULATED, SOCS, Soc, find_soc
from mace_hexagon.version import VERSION

NATIVE_ID = "htp"

_INTEGERS = frozenset({DType.UINT8, DType.INT8, DType.UINT16, DType.INT16, DType.INT32, DType.BOOL})
_FLOATS = frozenset({DType.FLOAT32, DType.FLOAT16})


class HexagonProvider(ExecutionProvider):
    """Qualcomm's Hexagon Tensor Processor through the QNN libraries; on a PC, their emulation of it."""

    name: ClassVar[str] = "hexagon"
    vendor: ClassVar[str] = "mace"
    version: ClassVar[str] = VERSION
    api_version: ClassVar[ApiVersion] = ApiVersion(1, 2)
    options: ClassVar[Mapping[str, str]] = DESCRIPTIONS

    probe_options: ClassVar[frozenset[str]] = frozenset({"library_dir"})
    policy_options: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "throughput": {"performance": "sustained"},
        "power": {"performance": "low_power"},
    }
    key_covers_options: ClassVar[bool] = True

    def probe(self) -> ProbeResult:
        return _describe(discovery.search())

    def probe_with(self, options: Mapping[str, object]) -> ProbeResult:
        library = read(options).library
        return self.probe() if library is None else _describe(discovery.Search(library, (), (library,)))

    def open(self, device: Device, options: Mapping[str, object]) -> Backend:
        given = read(options)
        library = given.library
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
        from mace_hexagon.op_packages import register
        from mace_hexagon.qnn.handles import GraphSettings, QnnDevice, Target, arch_target, soc_target
        from mace_hexagon.qnn.library import load

        target: Target = ()
        if soc is not None:
            half = given.precision == "fp16"
            target = soc_target(soc.number) if half else arch_target(soc.arch, float_soc=EMULATED[68].number)
        qnn = QnnDevice(load(library, keep_started=device.is_virtual), device.qualified_name, target)
        try:
            floats = soc is None or soc.computes_floats
            settings = GraphSettings(
                half_precision=given.precision == "fp16" and floats,
                optimization=given.optimization,
                vtcm_mb=given.vtcm_mb,
                hvx_threads=given.hvx_threads,
            )
            allocator, notes = _shared_memory(device, given.shared_memory)
            for package in given.op_packages:
                register(qnn, package)
            return HexagonBackend(device, qnn, settings, options=given, floats=floats, allocator=allocator, notes=notes)
        except BaseException:
            qnn.close()
            raise


def _shared_memory(device: Device, choice: str) -> tuple[Allocator | None, tuple[str, ...]]:
    """An allocator of memory that is shared with the HTP, where there is one, and why there is none.

    Raises:
        UsageError: if the library that the user named cannot be used.
    """
    if choice == OFF or (choice == AUTO and device.is_virtual):
        return None, ()
    from mace_hexagon.qnn.rpcmem import LIBRARY, RpcMemAllocator

    try:
        return RpcMemAllocator(LIBRARY if choice == AUTO else choice, device.qualified_name), ()
    except ProviderError as error:
        if choice != AUTO:
            raise UsageError(f"the hexagon option 'shared_memory' does not fit: {error}") from None
        return None, (f"inputs and outputs are copied to {device.qualified_name}: {error}",)


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
