"""The one exception hierarchy of the framework.

Messages are sentences: what happened, where (model, node, device), what to do now.  The class says who can mend it,
and the scheduler's retry and fallback decisions depend on it.
"""

from __future__ import annotations


def shorten(name: str, limit: int = 200) -> str:
    """A name for a message: on one line, and its beginning where it is longer than anyone would read."""
    shown = name if len(name) <= limit else f"{name[:limit]}…"
    return shown if shown.isprintable() else shown.replace("\n", "\\n")


def _printable(message: str) -> str:
    """A message without what would steer a terminal: names in a damaged or hostile file can be anything."""
    if message.isprintable():
        return message
    return "".join(
        character
        if character.isprintable() or character == "\n"
        else character.encode("unicode_escape", "replace").decode("ascii")
        for character in message
    )


class MaceError(Exception):
    """Base of every error this framework raises on purpose."""

    def __str__(self) -> str:
        return _printable(super().__str__())


# --- what the user gave --------------------------------------------------------------------------------------------


class UsageError(MaceError):
    """The call itself is wrong: an unknown option, device or name (command line: exit code 2)."""


class InputError(UsageError):
    """A run was given inputs that do not fit the model: a wrong name, dtype or shape."""


class DeviceNotFoundError(UsageError):
    """A device was named that no installed provider offers."""


class ModelError(MaceError):
    """The model file cannot be read or is not valid."""


class UnsupportedModelError(ModelError):
    """The model is valid but uses something this framework does not know (an opset, a domain, a type)."""


class StrictPlacementError(MaceError):
    """``strict`` was asked for and some node can not run on the devices named; nodes and reasons are listed."""


# --- plugins -------------------------------------------------------------------------------------------------------


class PluginError(MaceError):
    """A plugin named by the user could not be used: import failure, another api version, two with one name."""


# --- what a provider raises; the scheduler's reaction is part of the contract --------------------------------------


class ProviderError(MaceError):
    """Base of errors raised by execution providers.

    ``node`` names the node the error belongs to, where there is one; ``device`` the device.
    """

    def __init__(self, message: str, *, node: str | None = None, device: str | None = None) -> None:
        super().__init__(message)
        self.node = node
        self.device = device


class UnsupportedError(ProviderError):
    """The provider can not do this after all.  At compile: the subgraph is placed elsewhere, the reason kept."""


class OutOfMemoryError(ProviderError):
    """Memory is exhausted.  At compile: placed elsewhere.  At run: raised to the caller; the session stays usable."""


class DeviceLostError(ProviderError):
    """The device is gone or must be reopened.  The session raises it and refuses that device from then on."""


class TransientError(ProviderError):
    """A failure that may pass by itself (a busy device).  The core retries the run once."""


class ProviderBugError(ProviderError):
    """Something that should never happen: a defect of the provider.  Never retried."""


class NumericsError(MaceError):
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
