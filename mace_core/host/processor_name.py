"""What people call the processor of this machine."""

from __future__ import annotations

import platform
from pathlib import Path

from mace_core.host.arm import arm_designs, describe_designs


def processor_name(root: Path = Path("/"), machine: str = "") -> str:
    """ "Intel(R) Xeon(R) …", "Arm Cortex-A76 + Cortex-A55"; the architecture where the system does not tell.

    Args:
        root: where ``proc`` and ``sys`` are looked for.
        machine: the architecture; "": of this process.
    """
    machine = machine or platform.machine()
    if machine in ("aarch64", "arm64"):
        # no "model name" there; where there is one, an emulator shows the processor that it runs on
        return describe_designs(arm_designs(root)) or _otherwise(machine)
    try:
        with (root / "proc/cpuinfo").open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        return _otherwise(machine)
    return _otherwise(machine)


def _otherwise(machine: str) -> str:
    return (platform.processor() if machine == platform.machine() else "") or machine
