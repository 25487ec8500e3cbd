"""Kinds of memory a tensor can live in."""

from __future__ import annotations

import enum


class MemoryKind(enum.Enum):
    """Where bytes live and who can address them."""

    HOST = "host"  # ordinary process memory, addressable by the CPU
    PINNED = "pinned"  # host memory a device can read directly (page-locked, SVM, rpcmem)
    DEVICE = "device"  # known to the device alone; reached through a handle and a transfer
    OBJECT = "object"  # a Python object (strings, sequences, optionals): no dense memory at all
