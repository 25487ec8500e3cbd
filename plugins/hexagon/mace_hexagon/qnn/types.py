"""Structures and constants of QNN's core API 2.x, as its public documentation describes them.

The sizes are checked when the module is loaded, the meaning of the fields by a test that lets Qualcomm's Saver library
print every structure it was handed.
"""

from __future__ import annotations

import ctypes as c
import enum
from typing import ClassVar

Handle = c.c_void_p


class DataType(enum.IntEnum):
    """Element types: the last byte is the width, the one before it the family."""

    INT_8 = 0x0008
    INT_16 = 0x0016
    INT_32 = 0x0032
    INT_64 = 0x0064
    UINT_8 = 0x0108
    UINT_16 = 0x0116
    UINT_32 = 0x0132
    UINT_64 = 0x0164
    FLOAT_16 = 0x0216
    FLOAT_32 = 0x0232
    SFIXED_POINT_8 = 0x0308
    SFIXED_POINT_16 = 0x0316
    SFIXED_POINT_32 = 0x0332
    UFIXED_POINT_8 = 0x0408
    UFIXED_POINT_16 = 0x0416
    UFIXED_POINT_32 = 0x0432
    BOOL_8 = 0x0508

    @property
    def bits(self) -> int:
        """Width of an element: the last byte, whose hexadecimal digits are to be read as decimal ones."""
        return int(f"{self & 0xFF:x}")


class TensorKind(enum.IntEnum):
    """What a tensor is to its graph."""

    APP_WRITE = 0  # an input
    APP_READ = 1  # an output
    NATIVE = 3  # flows between nodes
    STATIC = 4  # a constant


UNDEFINED = 0x7FFFFFFF
DEFINITION_DEFINED = 1
ENCODING_SCALE_OFFSET = 0
ENCODING_AXIS_SCALE_OFFSET = 1
PARAM_SCALAR = 0
PARAM_TENSOR = 1
TENSOR_VERSION = 1
OP_CONFIG_VERSION = 1
CONFIG_CUSTOM = 0  # "the rest is specific to the backend", for graphs and for devices alike
HTP_GRAPH_OPTIMIZATION = 1
HTP_GRAPH_PRECISION = 2
HTP_GRAPH_VTCM_MB = 3
HTP_GRAPH_HVX_THREADS = 6
FINALIZE_OPTIMIZATION = 3
PRECISION_FLOAT16 = 1
HTP_DEVICE_SOC = 0
HTP_DEVICE_ARCH = 1
FIRST_DEVICE = 0
INFRASTRUCTURE_PERFORMANCE = 0
POWER_DCVS_V3 = 1
POWER_RPC_LATENCY = 2
POWER_RPC_POLLING = 3
MEMORY_RAW = 0
MEMORY_HANDLE = 1
MEMORY_CUSTOM = 2  # what a descriptor describes is the backend's
HTP_SHARED_BUFFER = 1
ASYNCHRONOUS_EXECUTION = 304  # a property


class Version(c.Structure):
    _fields_: ClassVar = [("major", c.c_uint32), ("minor", c.c_uint32), ("patch", c.c_uint32)]


class ApiVersion(c.Structure):
    _fields_: ClassVar = [("core", Version), ("backend", Version)]


class InterfaceHeader(c.Structure):
    """What stands before the function table, the same in every version: all that is read before the check."""

    _fields_: ClassVar = [("backend_id", c.c_uint32), ("name", c.c_char_p), ("version", ApiVersion)]


class ScaleOffset(c.Structure):
    """``real = (q + offset) * scale``."""

    _fields_: ClassVar = [("scale", c.c_float), ("offset", c.c_int32)]


class AxisScaleOffset(c.Structure):
    _fields_: ClassVar = [("axis", c.c_int32), ("count", c.c_uint32), ("values", c.POINTER(ScaleOffset))]


class _Encoding(c.Union):
    _fields_: ClassVar = [("tensor", ScaleOffset), ("axis", AxisScaleOffset), ("_reserved", c.c_uint64 * 4)]


class QuantizeParams(c.Structure):
    _fields_: ClassVar = [("definition", c.c_uint32), ("encoding", c.c_uint32), ("value", _Encoding)]


class ClientBuffer(c.Structure):
    _fields_: ClassVar = [("data", c.c_void_p), ("size", c.c_uint32)]


class TensorV1(c.Structure):
    _fields_: ClassVar = [
        ("id", c.c_uint32),
        ("name", c.c_char_p),
        ("kind", c.c_uint32),
        ("data_format", c.c_uint32),
        ("data_type", c.c_uint32),
        ("quantize", QuantizeParams),
        ("rank", c.c_uint32),
        ("dimensions", c.POINTER(c.c_uint32)),
        ("memory_type", c.c_uint32),
        ("buffer", ClientBuffer),
    ]


class _AnyTensor(c.Union):
    _fields_: ClassVar = [("v1", TensorV1), ("_v2", c.c_uint64 * 17)]


class Tensor(c.Structure):
    """A tensor; only version 1 is written, the space of version 2 is there."""

    _fields_: ClassVar = [("version", c.c_uint32), ("any", _AnyTensor)]


class _ScalarValue(c.Union):
    _fields_: ClassVar = [
        ("f32", c.c_float),
        ("u32", c.c_uint32),
        ("i32", c.c_int32),
        ("bool8", c.c_uint8),
        ("_widest", c.c_uint64),
    ]


class Scalar(c.Structure):
    _fields_: ClassVar = [("data_type", c.c_uint32), ("value", _ScalarValue)]


class _ParamValue(c.Union):
    _fields_: ClassVar = [("scalar", Scalar), ("tensor", Tensor)]


class Param(c.Structure):
    _fields_: ClassVar = [("kind", c.c_uint32), ("name", c.c_char_p), ("value", _ParamValue)]


class OpConfig(c.Structure):
    """One node; passed by value."""

    _fields_: ClassVar = [
        ("version", c.c_uint32),
        ("name", c.c_char_p),
        ("package", c.c_char_p),
        ("type", c.c_char_p),
        ("param_count", c.c_uint32),
        ("params", c.POINTER(Param)),
        ("input_count", c.c_uint32),
        ("inputs", c.POINTER(Tensor)),
        ("output_count", c.c_uint32),
        ("outputs", c.POINTER(Tensor)),
    ]


class _CustomValue(c.Union):
    _fields_: ClassVar = [("words", c.c_uint32 * 2), ("_room", c.c_uint64 * 4)]


class CustomConfig(c.Structure):
    """An option of the HTP backend for a graph or a device; the value starts at the eighth byte."""

    _fields_: ClassVar = [("option", c.c_uint32), ("value", _CustomValue)]


class Config(c.Structure):
    """A graph's or device's option."""

    _fields_: ClassVar = [("option", c.c_uint32), ("custom", c.c_void_p), ("_room", c.c_uint64 * 2)]


class PowerConfig(c.Structure):
    """A setting of clocks; the sixteen words of a DCVS vote are the largest."""

    _fields_: ClassVar = [("option", c.c_uint32), ("words", c.c_uint32 * 16)]


class Infrastructure(c.Structure):
    """The HTP backend's functions for clocks and voltages."""

    _fields_: ClassVar = [
        ("kind", c.c_uint32),
        ("create", c.CFUNCTYPE(c.c_uint64, c.c_uint32, c.c_uint32, c.POINTER(c.c_uint32))),
        ("destroy", c.CFUNCTYPE(c.c_uint64, c.c_uint32)),
        ("set", c.CFUNCTYPE(c.c_uint64, c.c_uint32, c.POINTER(c.c_void_p))),
        ("set_memory", c.c_void_p),
    ]


class ProfileEventData(c.Structure):
    """One thing that was measured."""

    _fields_: ClassVar = [
        ("kind", c.c_uint32),
        ("unit", c.c_uint32),
        ("value", c.c_uint64),
        ("name", c.c_char_p),
    ]


Notify = c.CFUNCTYPE(None, c.c_void_p, c.c_uint64)
"""Called when a queued run has ended, from a thread of the library; the status, a structure, is one error code."""


class SharedBuffer(c.Structure):
    """Where a tensor lies in memory that is shared with the HTP."""

    _fields_: ClassVar = [
        ("kind", c.c_uint32),
        ("size", c.c_uint64),
        ("descriptor", c.c_int32),
        ("offset", c.c_uint64),
    ]


class MemoryDescriptor(c.Structure):
    """Memory of a tensor, for registering it."""

    _fields_: ClassVar = [
        ("rank", c.c_uint32),
        ("dimensions", c.POINTER(c.c_uint32)),
        ("shape_config", c.c_char_p),
        ("data_type", c.c_uint32),
        ("kind", c.c_uint32),
        ("custom", c.c_void_p),
    ]


_SIZES = {
    InterfaceHeader: 40,
    QuantizeParams: 40,
    TensorV1: 112,
    Tensor: 144,
    Scalar: 16,
    Param: 160,
    OpConfig: 80,
    PowerConfig: 68,
    ProfileEventData: 24,
    SharedBuffer: 32,
    MemoryDescriptor: 40,
}

for _structure, _size in _SIZES.items():
    if c.sizeof(_structure) != _size:  # a platform with other alignment rules: nothing could work
        raise ImportError(
            f"QNN's {_structure.__name__} takes {_size} bytes, but {c.sizeof(_structure)} on this platform"
        )
