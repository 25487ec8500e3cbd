"""The one exception hierarchy of the framework.

A message is one sentence: where (model, node, device), what happened, what to do now.  The class says who can fix it,
and the scheduler's retry and fallback decisions depend on it.  Where Python has a class of its own for what happened
(``ValueError``, ``TypeError``, ``FileNotFoundError``, ``MemoryError`` …) the error is that too, so that code which
knows nothing of this framework can handle it.  All of them can be pickled and copied.

Code within the framework that turns a ``ValueError``, ``TypeError``, ``OSError`` or ``MemoryError`` of Python into
something else lets a `MaceError` pass first: it says already what is wrong.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Mapping
from typing import Any

__all__ = [
    "CancelledError",
    "DataError",
    "DeadlineError",
    "DeviceLostError",
    "DeviceNotFoundError",
    "ExporterError",
    "InputError",
    "InputTypeError",
    "MaceError",
    "ModelError",
    "ModelFileError",
    "ModelIsFolderError",
    "ModelNotFoundError",
    "ModelPermissionError",
    "NumericsError",
    "OutOfMemoryError",
    "PackageError",
    "PluginError",
    "ProviderBugError",
    "ProviderError",
    "QueueFullError",
    "SignatureError",
    "StrictPlacementError",
    "TransientError",
    "UnsupportedError",
    "UnsupportedModelError",
    "UsageError",
    "UsageTypeError",
]


def shorten(name: str, limit: int = 200) -> str:
    """A name for a message: on one line, and its beginning where it is longer than anyone would read."""
    shown = name if len(name) <= limit else f"{name[:limit]}…"
    return shown if shown.isprintable() else shown.replace("\n", "\\n")


def printable(message: str) -> str:
    """A message without what would steer a terminal: names in a damaged or hostile file can be anything."""
    if message.isprintable():
        return message
    return "".join(
        character
        if character.isprintable() or character == "\n"
        else character.encode("unicode_escape", "replace").decode("ascii")
        for character in message
    )


def advice_for(error: BaseException) -> str:
    """What to do about an exhausted limit of the system, as part of a sentence; "" where it is something else."""
    if isinstance(error, OSError) and error.errno == errno.EMFILE:
        held = _held_descriptors()
        return (
            f"this process has as many files open as it may{f' ({held})' if held else ''}: close what is not needed, "
            "or raise the limit ('ulimit -n 4096' in the shell, LimitNOFILE= of a service)"
        )
    if isinstance(error, OSError) and error.errno == errno.ENFILE:
        return "this machine has as many files open as it may: end other programs, or raise its limit (fs.file-max)"
    return ""


_MOST_DESCRIPTORS = 4096
"""Looked at where the limit is higher."""

_MOST_HOLDERS = 4


def _held_descriptors() -> str:
    """What this process has open, the most frequent first: "3 of /tmp/log.txt, 2 of socket"; "" where that is not told.

    Listing a folder would take a descriptor, and there is none left: each number is asked for by itself.
    """
    counts: dict[str, int] = {}
    for number in range(_MOST_DESCRIPTORS):
        try:
            target = os.readlink(f"/proc/self/fd/{number}")  # noqa: PTH115 - quicker
        except OSError:
            continue
        name = target if target.startswith("/") else target.partition(":")[0]  # "socket:[8151]"
        counts[name] = counts.get(name, 0) + 1
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    shown = [f"{count} of {shorten(name)}" for name, count in ordered[:_MOST_HOLDERS]]
    rest = sum(count for _, count in ordered[_MOST_HOLDERS:])
    return ", ".join([*shown, f"{rest} of others"] if rest else shown)


def error_text(error: BaseException) -> str:
    """The words of an exception on one line, "" where it has none; an exception of somebody else's may fail at that."""
    try:
        return " ".join(str(error).split())
    except KeyboardInterrupt:
        raise
    except BaseException as other:
        return f"whose text cannot be shown: it raises {type(other).__name__}"


def describe_error(error: BaseException) -> str:
    """``ImportError: No module named 'x'``: an exception as part of a sentence, on one line."""
    message = error_text(error)
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


class MaceError(Exception):
    """Base of every error this framework raises on purpose."""

    _context: tuple[str, ...] = ()

    @property
    def bare_message(self) -> str:
        """The message without what `add_context` put before it."""
        try:
            return printable(super().__str__())
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a provider may put anything into an error of ours
            return f"{type(self).__name__}, whose words cannot be had ({type(error).__name__})"

    @property
    def has_context(self) -> bool:
        """Whether `add_context` has been called."""
        return bool(self._context)

    def add_context(self, *parts: str) -> None:
        """Say where it happened, for an error that does not know: the message begins with those of ``parts`` (model,
        device, call) that it does not mention itself, before what was said so earlier."""
        self._context = (*(part for part in parts if part and part not in self._context), *self._context)

    def __str__(self) -> str:
        message = self.bare_message
        return ": ".join((*(part for part in self._context if not _mentions(message, part)), message))

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self), self.args), self.__dict__  # whatever the constructor asks for


def _mentions(message: str, part: str) -> bool:
    """Whether ``part`` stands in ``message``, and not as a piece of a longer name."""
    return re.search(rf"(?<![\w:.]){re.escape(part)}(?!\w|[:.]\w)", message) is not None


def _restored(kind: type[MaceError], args: tuple[Any, ...]) -> MaceError:
    """An error as it was pickled, made without its constructor."""
    builtin: Any = kind
    while builtin.__flags__ & _HEAP_TYPE:
        builtin = builtin.__base__
    error: MaceError = builtin.__new__(kind, *args)
    error.args = args
    return error


_HEAP_TYPE = 1 << 9
"""Of ``type.__flags__``: a class made by a ``class`` statement (Py_TPFLAGS_HEAPTYPE)."""


# --- what the user gave --------------------------------------------------------------------------------------------


class UsageError(MaceError, ValueError):
    """The call itself is wrong: an unknown option, device or name (command line: exit code 2)."""


class UsageTypeError(UsageError, TypeError):
    """An argument is of a type that means nothing here."""


class InputError(UsageError):
    """A run was given inputs that do not fit the model: a wrong name, dtype or shape."""


class InputTypeError(InputError, UsageTypeError):
    """Some input is not an array, or one of another element type than the model takes."""


class DeviceNotFoundError(UsageError, LookupError):
    """A device was named that no installed provider offers."""


class ModelError(MaceError, ValueError):
    """The model file cannot be read or is not valid."""


class UnsupportedModelError(ModelError, NotImplementedError):
    """The model is valid but uses something this framework does not know (an opset, a domain, a type)."""


class ExporterError(ModelError):
    """A model of a training framework is not exported to ONNX: the exporter is not installed, or it fails."""


class PackageError(ModelError):
    """A package (``.mace``) is not one, is damaged, or has a form that this version does not read."""


class SignatureError(PackageError):
    """A model is not signed by a key that is trusted, and only such models may be used."""


class ModelFileError(ModelError, OSError):
    """The system does not let a file be read: the model's, or one that holds its weights.

    Attributes:
        errno, strerror, filename: as of any ``OSError``.
    """

    def __init__(self, message: str, code: int, filename: str | os.PathLike[str]) -> None:
        """
        Args:
            message: what ``str()`` gives.
            code: why, one of the module ``errno``.
            filename: the file that was looked for.
        """
        OSError.__init__(self, code, os.strerror(code), os.fspath(filename))
        self.message = message

    @property
    def bare_message(self) -> str:
        return printable(self.message)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored_file_error, (type(self), self.errno, self.filename), self.__dict__


def _restored_file_error(kind: type[ModelFileError], code: int, filename: str) -> ModelFileError:
    error = OSError.__new__(kind)
    ModelFileError.__init__(error, "", code, filename)
    return error


class ModelNotFoundError(ModelFileError, FileNotFoundError):
    """The model file, or a file that holds its weights, is not there."""

    def __init__(self, message: str, filename: str | os.PathLike[str]) -> None:
        super().__init__(message, errno.ENOENT, filename)


class ModelIsFolderError(ModelFileError, IsADirectoryError):
    """A folder was given as the model."""

    def __init__(self, message: str, filename: str | os.PathLike[str]) -> None:
        super().__init__(message, errno.EISDIR, filename)


class ModelPermissionError(ModelFileError, PermissionError):
    """The file is there, and this user may not read it."""


def model_file_error(message: str, error: OSError, filename: str | os.PathLike[str]) -> ModelFileError:
    """The error of ours for one of the system's; ``message`` is the whole sentence."""
    if advice := advice_for(error):
        message = f"{message.rstrip('.')}; {advice}."
    if isinstance(error, FileNotFoundError):
        return ModelNotFoundError(message, filename)
    if isinstance(error, IsADirectoryError):
        return ModelIsFolderError(message, filename)
    code = error.errno or errno.EIO
    return (ModelPermissionError if isinstance(error, PermissionError) else ModelFileError)(message, code, filename)


class StrictPlacementError(MaceError):
    """``strict`` was asked for and some node cannot run on the devices named; the message sums up which, and why.

    Attributes:
        unplaced: node name -> device -> why the node cannot run there; all of them.
    """

    def __init__(self, message: str, unplaced: Mapping[str, Mapping[str, str]] | None = None) -> None:
        super().__init__(message)
        self.unplaced: Mapping[str, Mapping[str, str]] = unplaced or {}


# --- plugins -------------------------------------------------------------------------------------------------------


class PluginError(MaceError):
    """A plugin named by the user could not be used: import failure, another api version, two with one name."""


# --- what a provider raises; the scheduler's reaction is part of the contract --------------------------------------


class ProviderError(MaceError):
    """Base of errors raised by execution providers.

    ``node`` names the node the error belongs to, where there is one; ``device`` the device.  The core fills in the
    device, and puts model, device and the call that raised it before the message.
    """

    device: str | None = None  # also of a subclass that does not call this constructor
    node: str | None = None

    def __init__(self, message: str, *, node: str | None = None, device: str | None = None) -> None:
        super().__init__(message)
        self.node = node
        self.device = device


class UnsupportedError(ProviderError):
    """The provider cannot do this after all.  At compile: the subgraph is placed elsewhere, the reason kept."""


class OutOfMemoryError(ProviderError, MemoryError):
    """Memory is exhausted.  What is kept for later is given up and the call repeated; if that fails too, a compilation
    goes elsewhere, a run does so where the device has memory of its own, and is raised to the caller where not.

    Attributes:
        needed_bytes: how much was needed at once; None where that is not known.
    """

    needed_bytes: int | None = None


class DeviceLostError(ProviderError):
    """The device is gone or must be reopened.  The run goes on elsewhere, and the device is opened again after a rest;
    where there is no other device, or the session is strict, it is raised."""


class DataError(ProviderError):
    """A node cannot be computed for the values of this run, an index beyond its axis for example, on whatever device.

    It is raised to the caller, and not held against the device.
    """


class OutOfRangeError(ProviderError):
    """The device cannot hold the numbers that this run brings, infinities for example, and would compute it wrongly.

    This run begins again on the other devices, and later ones may use the device: it is the values that did not fit.
    If that happens again and again it rests like any other that fails.  In a strict session the error is raised.
    """


class TransientError(ProviderError):
    """A failure that may pass by itself (a busy device).  The core tries the run once more there, then elsewhere."""


class ProviderBugError(ProviderError):
    """Something that should never happen: a defect of the provider.  Never tried again there, but elsewhere."""


class NumericsError(MaceError, FloatingPointError):
    """A run that checks its numbers met one that is not finite.  The session stays usable.

    Attributes:
        node, device: what computed it, and where.
        output: the value's name.
        nan_count, infinity_count: how many of each it holds.
        first_index: where the first of them is.
        bad_inputs: names of the node's inputs that were not finite either.
    """

    def __init__(
        self,
        message: str,
        *,
        node: str,
        device: str,
        output: str,
        nan_count: int,
        infinity_count: int,
        first_index: tuple[int, ...],
        bad_inputs: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.node = node
        self.device = device
        self.output = output
        self.nan_count = nan_count
        self.infinity_count = infinity_count
        self.first_index = first_index
        self.bad_inputs = bad_inputs


class CancelledError(MaceError):
    """A run was stopped through its cancel flag."""


class DeadlineError(CancelledError, TimeoutError):
    """A run was not done by its deadline, and was given up."""


class QueueFullError(MaceError):
    """As many requests wait for a device as its queue holds.  Nothing ran; ask again later."""
