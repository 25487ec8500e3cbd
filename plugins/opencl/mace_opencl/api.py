"""The entry points of OpenCL that probing and launching call directly, out of the loader that pyopencl uses too."""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mace_opencl import discovery
from mace_opencl.errors import raise_for

_u32, _u64, _ptr, _size = ctypes.c_uint32, ctypes.c_uint64, ctypes.c_void_p, ctypes.c_size_t

_PROTOTYPES: dict[str, tuple[Any, ...] | None] = {
    "clGetPlatformIDs": (_u32, _ptr, _ptr),
    "clGetPlatformInfo": (_ptr, _u32, _size, _ptr, _ptr),
    "clGetDeviceIDs": (_ptr, _u64, _u32, _ptr, _ptr),
    "clGetDeviceInfo": (_ptr, _u32, _size, _ptr, _ptr),
    "clCreateKernel": None,  # returns a handle, see below
    "clBuildProgram": (_ptr, _u32, _ptr, ctypes.c_char_p, _ptr, _ptr),
    "clGetProgramBuildInfo": (_ptr, _ptr, _u32, _size, _ptr, _ptr),
    "clReleaseProgram": (_ptr,),
    "clReleaseContext": (_ptr,),
    "clReleaseKernel": (_ptr,),
    "clSetKernelArg": (_ptr, _u32, _size, _ptr),
    "clEnqueueNDRangeKernel": (_ptr, _ptr, _u32, _ptr, _ptr, _ptr, _u32, _ptr, _ptr),
    "clEnqueueMarkerWithWaitList": (_ptr, _u32, _ptr, _ptr),
    "clEnqueueReadBuffer": (_ptr, _ptr, _u32, _size, _size, _ptr, _u32, _ptr, _ptr),
    "clEnqueueWriteBuffer": (_ptr, _ptr, _u32, _size, _size, _ptr, _u32, _ptr, _ptr),
    "clFlush": (_ptr,),
    "clFinish": (_ptr,),
    "clWaitForEvents": (_u32, _ptr),
    "clGetEventInfo": (_ptr, _u32, _size, _ptr, _ptr),
    "clGetEventProfilingInfo": (_ptr, _u32, _size, _ptr, _ptr),
    "clReleaseEvent": (_ptr,),
}

DEVICE_TYPE_ALL = 0xFFFFFFFF
DEVICE_TYPE_CPU = 1 << 1
DEVICE_TYPE_GPU = 1 << 2
DEVICE_TYPE_ACCELERATOR = 1 << 3
DEVICE_NOT_FOUND = -1
PLATFORM_NOT_FOUND = -1001

EVENT_COMMAND_EXECUTION_STATUS = 0x11D3
PROFILING_COMMAND_START = 0x1282
PROFILING_COMMAND_END = 0x1283


class OpenCl:
    """Functions of one loader; each returns OpenCL's status code, without looking at it."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        for name, arguments in _PROTOTYPES.items():
            function = getattr(library, name)
            function.restype = ctypes.c_int32
            if arguments is not None:
                function.argtypes = list(arguments)
            setattr(self, name, function)
        self.clCreateKernel.restype = ctypes.c_void_p
        self.clCreateKernel.argtypes = [_ptr, ctypes.c_char_p, _ptr]
        # these return handles, too
        self._create_context = library.clCreateContext
        self._create_context.restype = ctypes.c_void_p
        self._create_context.argtypes = [_ptr, _u32, _ptr, _ptr, _ptr, _ptr]
        self._create_program = library.clCreateProgramWithSource
        self._create_program.restype = ctypes.c_void_p
        self._create_program.argtypes = [_ptr, _u32, _ptr, _ptr, _ptr]
        self._library = library  # keeps it loaded

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"{name} is not among the functions this provider calls directly")

    def address(self, name: str) -> int:
        """Where a function is, for native code."""
        return int(ctypes.cast(getattr(self, name), ctypes.c_void_p).value or 0)

    def create_kernel(self, program: int, name: str) -> int:
        """A kernel object of its own; release it with ``clReleaseKernel``."""
        status = ctypes.c_int32()
        kernel = self.clCreateKernel(program, name.encode(), ctypes.byref(status))
        raise_for(status.value, f"making kernel '{name}'")
        return int(kernel)

    def why_nothing_compiles(self, device: int) -> str:
        """What the compiler of a device says of a program that any compiler takes; "" where it takes it.

        Raises:
            ProviderError: the device cannot be used at all.
        """
        status, handle = ctypes.c_int32(), ctypes.c_void_p(device)
        context = self._create_context(None, 1, ctypes.byref(handle), None, None, ctypes.byref(status))
        raise_for(status.value, "making a context")
        try:
            text = ctypes.c_char_p(b"__kernel void one(__global float *x) { x[get_global_id(0)] = 1; }")
            program = self._create_program(context, 1, ctypes.byref(text), None, ctypes.byref(status))
            raise_for(status.value, "making a program")
            try:
                if self.clBuildProgram(program, 1, ctypes.byref(handle), b"", None, None) == 0:
                    return ""
                return self._build_log(program, device)
            finally:
                self.clReleaseProgram(program)
        finally:
            self.clReleaseContext(context)

    def _build_log(self, program: int, device: int) -> str:
        size, what = ctypes.c_size_t(), 0x1183  # CL_PROGRAM_BUILD_LOG
        raise_for(self.clGetProgramBuildInfo(program, device, what, 0, None, ctypes.byref(size)), "reading a log")
        text = ctypes.create_string_buffer(size.value + 1)
        raise_for(self.clGetProgramBuildInfo(program, device, what, size.value, text, None), "reading a log")
        return text.value.decode(errors="replace").strip().partition("\n")[0] or "the compiler does not say why"


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """What a driver says of one device.

    Attributes:
        handle: its cl_device_id, good in this process only.
        type: the bits of CL_DEVICE_TYPE.
    """

    handle: int
    platform: str
    platform_version: str
    name: str
    vendor: str
    driver: str
    type: int
    memory_bytes: int
    compute_units: int

    @property
    def is_cpu(self) -> bool:
        return bool(self.type & DEVICE_TYPE_CPU)

    @property
    def title(self) -> str:
        """The name for people: that of a processor would not say that it stands in for a GPU."""
        return f"OpenCL on this CPU ({self.name})" if self.is_cpu else self.name


@functools.cache
def load() -> OpenCl:
    """The functions of the very loader that pyopencl is linked to, so that handles may be exchanged with it.

    pyopencl itself is not imported: that takes ten times as long as listing devices.

    Raises:
        OSError, AttributeError: there is no such library, or it lacks functions of OpenCL 1.2.
    """
    if sys.platform == "win32":  # there is one loader, the system's
        return OpenCl(ctypes.WinDLL("OpenCL.dll"))
    package = discovery.binding_folder()
    extension = None if package is None else next(iter(sorted(package.glob("_cl*.so"))), None)
    if extension is None:
        raise OSError("the pyopencl package has no extension module")
    # A loader inside a pyopencl wheel finds the drivers beside it through this variable and crashes without it;
    # importing pyopencl sets it to the same.
    os.environ["PYOPENCL_HOME"] = str(package)
    # PoCL would otherwise compile every kernel once more at its first launch, for the size of that launch, and a stored
    # program would save nothing.
    os.environ.setdefault("POCL_WORK_GROUP_SPECIALIZATION", "0")
    # Names are looked up in a library and in what it is linked to: here, the loader, with the search path of pyopencl.
    return OpenCl(ctypes.CDLL(str(extension)))


def list_devices(api: OpenCl) -> list[DeviceFacts]:
    """All devices of all drivers: GPUs first, then accelerators, then CPUs; by name within a kind.

    The order does not depend on the one in which the loader finds drivers, so numbers stay with their devices.
    """
    found: list[DeviceFacts] = []
    for platform in _handles(api.clGetPlatformIDs, PLATFORM_NOT_FOUND, "listing platforms"):
        label = _text(api.clGetPlatformInfo, platform, 0x0902)
        version = _text(api.clGetPlatformInfo, platform, 0x0901)

        def device_ids(count: int, target: Any, number: Any, platform: int = platform) -> int:
            return int(api.clGetDeviceIDs(platform, DEVICE_TYPE_ALL, count, target, number))

        for device in _handles(device_ids, DEVICE_NOT_FOUND, f"listing devices of {label}"):
            found.append(_describe(api, device, label, version))
    return sorted(found, key=lambda d: (_rank(d.type), d.platform, d.name))


def _describe(api: OpenCl, device: int, platform: str, platform_version: str) -> DeviceFacts:
    def number(what: int, kind: Any = ctypes.c_uint64) -> int:
        value = kind()
        raise_for(
            api.clGetDeviceInfo(device, what, ctypes.sizeof(value), ctypes.byref(value), None), "describing a device"
        )
        return int(value.value)

    return DeviceFacts(
        handle=device,
        platform=platform,
        platform_version=platform_version,
        name=_text(api.clGetDeviceInfo, device, 0x102B),
        vendor=_text(api.clGetDeviceInfo, device, 0x102C),
        driver=_text(api.clGetDeviceInfo, device, 0x102D),
        type=number(0x1000),
        memory_bytes=number(0x101F),
        compute_units=number(0x1002, ctypes.c_uint32),
    )


def _rank(kind: int) -> int:
    order: Sequence[int] = (DEVICE_TYPE_GPU, DEVICE_TYPE_ACCELERATOR, DEVICE_TYPE_CPU)
    return next((rank for rank, bit in enumerate(order) if kind & bit), len(order))


def _handles(function: Any, absent: int, what: str) -> list[int]:
    count = ctypes.c_uint32()
    status = function(0, None, ctypes.byref(count))
    if status == absent or (status == 0 and count.value == 0):
        return []
    raise_for(status, what)
    handles = (ctypes.c_void_p * count.value)()
    raise_for(function(count.value, ctypes.cast(handles, ctypes.c_void_p), None), what)
    return [int(handle) for handle in handles if handle]


def _text(function: Any, handle: int, what: int) -> str:
    size = ctypes.c_size_t()
    raise_for(function(handle, what, 0, None, ctypes.byref(size)), "describing OpenCL")
    text = ctypes.create_string_buffer(size.value)
    raise_for(function(handle, what, size.value, text, None), "describing OpenCL")
    return text.value.decode(errors="replace").strip()
