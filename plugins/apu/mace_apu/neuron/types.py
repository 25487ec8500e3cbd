"""Structures of the Neuron Adapter, and the signatures of its functions with the version each came with."""

from __future__ import annotations

import ctypes as c
from typing import Any, ClassVar, NamedTuple

Handle = c.c_void_p
"""A pointer to one of the library's objects."""


class RuntimeVersion(c.Structure):
    _fields_: ClassVar = [("major", c.c_uint8), ("minor", c.c_uint8), ("patch", c.c_uint8)]


class OperandType(c.Structure):
    """Scalars have no dimensions; scale and zero point are 0 where nothing is quantized."""

    _fields_: ClassVar = [
        ("type", c.c_int32),
        ("rank", c.c_uint32),
        ("dimensions", c.POINTER(c.c_uint32)),
        ("scale", c.c_float),
        ("zero_point", c.c_int32),
    ]


class ChannelQuantization(c.Structure):
    """Scales of TENSOR_QUANT8_SYMM_PER_CHANNEL."""

    _fields_: ClassVar = [("axis", c.c_uint32), ("count", c.c_uint32), ("scales", c.POINTER(c.c_float))]


class Function(NamedTuple):
    """What is known about one of the library's functions.

    Attributes:
        arguments: ctypes of its arguments.
        since: the version of the library that it came with.
        returns: int for a result code, None for nothing.
    """

    arguments: tuple[Any, ...]
    since: tuple[int, int, int] = (4, 1, 0)
    returns: Any = c.c_int


_handles = c.POINTER(Handle)
_uints = c.POINTER(c.c_uint32)
_bools = c.POINTER(c.c_bool)
_text = c.POINTER(c.c_char_p)
_operand = c.POINTER(OperandType)

FUNCTIONS: dict[str, Function] = {
    "Neuron_getVersion": Function((c.POINTER(RuntimeVersion),)),
    "Neuron_getL1MemorySizeKb": Function((_uints,), (4, 3, 0)),
    "Neuron_getDeviceCount": Function((_uints,)),
    "Neuron_getDevice": Function((c.c_uint32, _handles)),
    "NeuronDevice_getName": Function((Handle, _text)),
    "NeuronDevice_getDescription": Function((Handle, _text), (5, 0, 0)),
    "NeuronDevice_getExtensionSupport": Function((c.c_char_p, _bools), (5, 0, 0)),
    "NeuronMemory_createFromFd": Function((c.c_size_t, c.c_int, c.c_int, c.c_size_t, _handles)),
    "NeuronMemory_free": Function((Handle,), returns=None),
    "NeuronModel_create": Function((_handles,)),
    "NeuronModel_free": Function((Handle,), returns=None),
    "NeuronModel_setName": Function((Handle, c.c_char_p), (7, 0, 0)),
    "NeuronModel_addOperand": Function((Handle, _operand)),
    "NeuronModel_setOperandValue": Function((Handle, c.c_int32, c.c_void_p, c.c_size_t)),
    "NeuronModel_setOperandSymmPerChannelQuantParams": Function((Handle, c.c_int32, c.POINTER(ChannelQuantization))),
    "NeuronModel_addOperation": Function((Handle, c.c_int, c.c_uint32, _uints, c.c_uint32, _uints)),
    "NeuronModel_identifyInputsAndOutputs": Function((Handle, c.c_uint32, _uints, c.c_uint32, _uints)),
    "NeuronModel_relaxComputationFloat32toFloat16": Function((Handle, c.c_bool)),
    "NeuronModel_finish": Function((Handle,)),
    "NeuronModel_getSupportedOperations": Function((Handle, _bools, c.c_uint32)),
    "NeuronModel_getSupportedOperationsForDevices": Function((Handle, _handles, c.c_uint32, _bools)),
    "NeuronModel_getExtensionOperationType": Function(
        (Handle, c.c_char_p, c.c_uint16, c.POINTER(c.c_int32)), (5, 0, 0)
    ),
    "NeuronModel_restoreFromCompiledNetwork": Function((_handles, _handles, c.c_void_p, c.c_size_t), (4, 3, 0)),
    "NeuronCompilation_create": Function((Handle, _handles)),
    "NeuronCompilation_createForDevices": Function((Handle, _handles, c.c_uint32, _handles)),
    "NeuronCompilation_createWithOptions": Function((Handle, _handles, c.c_char_p), (7, 0, 0)),
    "NeuronCompilation_free": Function((Handle,), returns=None),
    "NeuronCompilation_setPreference": Function((Handle, c.c_int32)),
    "NeuronCompilation_setPriority": Function((Handle, c.c_int)),
    "NeuronCompilation_setOptimizationHint": Function((Handle, c.c_uint32), (4, 3, 0)),
    "NeuronCompilation_setOptimizationString": Function((Handle, c.c_char_p), (4, 6, 0)),
    "NeuronCompilation_finish": Function((Handle,)),
    "NeuronCompilation_getCompiledNetworkSize": Function((Handle, c.POINTER(c.c_size_t)), (4, 3, 0)),
    "NeuronCompilation_storeCompiledNetwork": Function((Handle, c.c_void_p, c.c_size_t), (4, 3, 0)),
    "NeuronExecution_create": Function((Handle, _handles)),
    "NeuronExecution_free": Function((Handle,), returns=None),
    "NeuronExecution_setInput": Function((Handle, c.c_int32, _operand, c.c_void_p, c.c_size_t)),
    "NeuronExecution_setOutput": Function((Handle, c.c_int32, _operand, c.c_void_p, c.c_size_t)),
    "NeuronExecution_setInputFromMemory": Function(
        (Handle, c.c_uint32, _operand, Handle, c.c_size_t, c.c_size_t),
    ),
    "NeuronExecution_setOutputFromMemory": Function(
        (Handle, c.c_uint32, _operand, Handle, c.c_size_t, c.c_size_t),
    ),
    "NeuronExecution_setBoostHint": Function((Handle, c.c_uint8)),
    "NeuronExecution_compute": Function((Handle,)),
    "NeuronExecution_startComputeWithDependencies": Function(
        (Handle, _handles, c.c_uint32, c.c_uint64, _handles), (5, 0, 0)
    ),
    "NeuronEvent_wait": Function((Handle,), (5, 0, 0)),
    "NeuronEvent_free": Function((Handle,), (5, 0, 0), None),
}
"""Every function that is called."""

_SIZES = {RuntimeVersion: 3, OperandType: 24, ChannelQuantization: 16}

if c.sizeof(c.c_void_p) == 8:
    for _structure, _size in _SIZES.items():
        if c.sizeof(_structure) != _size:  # a platform with other alignment rules: nothing could work
            raise ImportError(
                f"the Neuron Adapter's {_structure.__name__} takes {_size} bytes, but {c.sizeof(_structure)} here"
            )
