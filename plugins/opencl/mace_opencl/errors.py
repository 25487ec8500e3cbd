"""OpenCL's status codes as the framework's errors."""

from __future__ import annotations

from mace_core.errors import DeviceLostError, OutOfMemoryError, ProviderBugError, ProviderError, TransientError

_NAMES = {
    -1: "DEVICE_NOT_FOUND",
    -2: "DEVICE_NOT_AVAILABLE",
    -3: "COMPILER_NOT_AVAILABLE",
    -4: "MEM_OBJECT_ALLOCATION_FAILURE",
    -5: "OUT_OF_RESOURCES",
    -6: "OUT_OF_HOST_MEMORY",
    -7: "PROFILING_INFO_NOT_AVAILABLE",
    -11: "BUILD_PROGRAM_FAILURE",
    -14: "EXEC_STATUS_ERROR_FOR_EVENTS_IN_WAIT_LIST",
    -30: "INVALID_VALUE",
    -33: "INVALID_DEVICE",
    -34: "INVALID_CONTEXT",
    -36: "INVALID_COMMAND_QUEUE",
    -38: "INVALID_MEM_OBJECT",
    -42: "INVALID_BINARY",
    -44: "INVALID_PROGRAM",
    -45: "INVALID_PROGRAM_EXECUTABLE",
    -46: "INVALID_KERNEL_NAME",
    -48: "INVALID_KERNEL",
    -49: "INVALID_ARG_INDEX",
    -50: "INVALID_ARG_VALUE",
    -51: "INVALID_ARG_SIZE",
    -52: "INVALID_KERNEL_ARGS",
    -54: "INVALID_WORK_GROUP_SIZE",
    -55: "INVALID_WORK_ITEM_SIZE",
    -57: "INVALID_EVENT_WAIT_LIST",
    -58: "INVALID_EVENT",
    -61: "INVALID_BUFFER_SIZE",
    -63: "INVALID_GLOBAL_WORK_SIZE",
    -1001: "PLATFORM_NOT_FOUND",
    -9999: "illegal memory access reported by the NVIDIA driver",
}

_MEMORY = frozenset({-4, -6, -61})
_LOST = frozenset({-2, -33, -34, -36, -9999})
_RESOURCES = -5
_WAIT_LIST = -14


def code_name(code: int) -> str:
    """``CL_INVALID_KERNEL (-48)``."""
    name = _NAMES.get(code)
    if name is None:
        return f"OpenCL error {code}"
    return f"CL_{name} ({code})" if name.isupper() else f"{name} ({code})"


def error_for(
    code: int, what: str, *, device: str = "", node: str | None = None, running: bool = False
) -> ProviderError:
    """The error that a status code stands for.

    Args:
        code: a negative status.
        what: what was being done, as a participle ("launching 'conv1'").
        running: the code came back from queued work.  Lack of resources then means that a kernel was aborted and the
            context is no longer good; before that, it means lack of memory.
    """
    where = f"{device}: " if device else ""
    message = f"{where}{what} failed with {code_name(code)}"
    if code in _MEMORY or (code == _RESOURCES and not running):
        return OutOfMemoryError(
            f"{message}: the device has no memory left for it; free memory or use another device",
            device=device or None,
            node=node,
        )
    if code in _LOST or code in (_RESOURCES, _WAIT_LIST):
        return DeviceLostError(
            f"{message}: the device does not answer any more; open a new session", device=device or None, node=node
        )
    if code == -3:
        return TransientError(
            f"{message}: the driver's compiler is not available now", device=device or None, node=node
        )
    return ProviderBugError(message, device=device or None, node=node)


def raise_for(code: int, what: str, *, device: str = "", node: str | None = None, running: bool = False) -> None:
    """Raise `error_for` unless ``code`` says success."""
    if code < 0:
        raise error_for(code, what, device=device, node=node, running=running)
