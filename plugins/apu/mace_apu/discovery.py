"""Where MediaTek's Neuron Adapter library is; nothing is loaded."""

from __future__ import annotations

import os
from pathlib import Path

from mace_core.provider import find_library

ENVIRONMENT = ("MACE_NEURON_LIB_DIR", "LD_LIBRARY_PATH")
"""Environment variables the answer depends on."""

ADAPTER_NAMES = (
    "libneuronusdk_adapter.mtk.so",
    "libneuronusdk_adapter.9.mtk.so",
    "libneuronusdk_adapter.10.mtk.so",
    "libneuronusdk_adapter.so",
    "libneuron_adapter_mgvi.so",
    "libneuron_adapter.so",
)
"""Names on MediaTek's devices, the most capable first."""


def find_adapter() -> Path | None:
    """The adapter library, or None."""
    return find_library(ADAPTER_NAMES, directories=folders())


def folders() -> list[Path]:
    """Folders looked into before the system's own."""
    given = os.environ.get("MACE_NEURON_LIB_DIR")
    return [Path(given)] if given else []


def searched() -> str:
    """Everything that was looked at, as text for a message."""
    given = os.environ.get("MACE_NEURON_LIB_DIR")
    first = f"MACE_NEURON_LIB_DIR={given}" if given else "MACE_NEURON_LIB_DIR (not set)"
    return f"{first} and the system's library folders"
