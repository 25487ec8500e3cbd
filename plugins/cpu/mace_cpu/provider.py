"""The `cpu` execution provider: describes the processor; opening it imports the compiler machinery."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import ClassVar

from mace_core.errors import UsageError
from mace_core.native.machine import default_threads, processor_name
from mace_core.provider import ApiVersion, Backend, Device, DeviceKind, ExecutionProvider, ProbeResult
from mace_core.tensor import DType
from mace_cpu.version import VERSION
from mace_cpu.workers import choose_workers, library_workers

DTYPES = frozenset(
    {
        DType.FLOAT32, DType.FLOAT64, DType.BOOL,
        DType.INT8, DType.INT16, DType.INT32, DType.INT64,
        DType.UINT8, DType.UINT16, DType.UINT32, DType.UINT64,
    }
)  # fmt: skip


class CpuProvider(ExecutionProvider):
    """Runs on the host processor with kernels generated for its instruction set."""

    name: ClassVar[str] = "cpu"
    vendor: ClassVar[str] = "mace"
    version: ClassVar[str] = VERSION
    api_version: ClassVar[ApiVersion] = ApiVersion(1, 3)
    options: ClassVar[Mapping[str, str]] = {
        "threads": "threads one run may use (default: what affinity and cgroup limits leave)",
        "affinity": "none (default), big or little: keep the threads to the fast or to the efficient processors",
        "features": "instruction set to generate for: host (default), avx512vnni, avx512, avxvnni, avx2, … baseline, "
        "on aarch64 armv8.6, armv8.2, i8mm, dotprod, fp16fml, fp16, baseline",
        "winograd": "whether 3x3 convolutions may be computed by Winograd's method: true (default) or false",
        "integers": "whether quantized models are computed in integers where they can be: true (default) or false",
        "target": "compile for this processor, to be written into a library (mace compile --target)",
        "precision": "float32 (default), or less exact: bfloat16, on processors with AMX, AVX512-BF16 or ARM's bf16; "
        "float16, on 64-bit ARM from ARMv8.2 on",
    }
    key_covers_options: ClassVar[bool] = True

    def probe(self) -> ProbeResult:
        import psutil  # not needed once the result is cached

        device = Device(
            provider=self.name,
            id="0",
            kind=DeviceKind.CPU,
            name=processor_name(),
            vendor=platform.machine(),
            memory_bytes=int(psutil.virtual_memory().total),
            dtypes=DTYPES,
            default_threads=default_threads(),
        )
        return ProbeResult(devices=(device,))

    def open(self, device: Device, options: Mapping[str, object]) -> Backend:
        unknown = sorted(set(options) - set(self.options))
        if unknown:
            raise UsageError(
                f"the cpu provider has no option '{unknown[0]}'; it knows {', '.join(sorted(self.options))}"
            )
        threads, target = options.get("threads"), options.get("target", "")
        if not isinstance(target, str):
            raise UsageError(f"the cpu option 'target' takes a name such as 'arm64-v8a', not {target!r}")
        workers = library_workers(threads) if target else choose_workers(threads, options.get("affinity", "none"))
        features = options.get("features")
        if features is not None and not isinstance(features, str):
            raise UsageError(f"the cpu option 'features' takes a name such as 'avx2', not {features!r}")
        winograd, integers = (_switch(options, name) for name in ("winograd", "integers"))
        precision = options.get("precision", "float32")
        if not isinstance(precision, str):
            raise UsageError(f"the cpu option 'precision' takes float32, float16 or bfloat16, not {precision!r}")
        if target and features is not None:
            raise UsageError("the cpu options 'target' and 'features' exclude each other; leave one out")
        from mace_cpu.backend import CpuBackend

        return CpuBackend(
            device,
            workers=workers,
            features=features,
            winograd=winograd,
            precision=precision,
            integers=integers,
            target=target,
        )


def _switch(options: Mapping[str, object], name: str) -> bool:
    """An option that is on unless it is switched off."""
    found = options.get(name, True)
    if not isinstance(found, bool):
        raise UsageError(f"the cpu option '{name}' takes true or false, not {found!r}")
    return found
