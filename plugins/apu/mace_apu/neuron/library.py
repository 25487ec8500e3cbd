"""The Neuron Adapter's functions: loaded once per file, the version read first, absent functions known."""

from __future__ import annotations

import ctypes as c
import threading
from pathlib import Path
from typing import Any, NamedTuple

from mace_apu.discovery import STAND_IN_MARKER
from mace_apu.neuron.constants import FIRST_VERSION, Result
from mace_apu.neuron.errors import code_name
from mace_apu.neuron.errors import error as error_of
from mace_apu.neuron.types import FUNCTIONS, RuntimeVersion
from mace_core.errors import ProviderError

NEWEST_MAJOR = 9
"""The interface has only grown up to this major version; a newer one may have changed what is called here."""

REQUIRED = (
    "NeuronModel_create", "NeuronModel_free", "NeuronModel_addOperand", "NeuronModel_setOperandValue",
    "NeuronModel_addOperation", "NeuronModel_identifyInputsAndOutputs", "NeuronModel_finish",
    "NeuronCompilation_create", "NeuronCompilation_free", "NeuronCompilation_finish", "NeuronExecution_create",
    "NeuronExecution_free", "NeuronExecution_setInput", "NeuronExecution_setOutput", "NeuronExecution_compute",
)  # fmt: skip
"""Without these nothing can run; without any other, a feature is off."""


class Version(NamedTuple):
    """Of a library."""

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"


class Library:
    """One loaded Neuron Adapter.

    Attributes:
        path: the file.
        version: what it says it is.
        is_stand_in: whether it is the tests' library and no vendor's.
        lock: held while something is compiled, which the interface does not promise to allow on two threads.
    """

    def __init__(self, path: Path) -> None:
        """
        Raises:
            ProviderError: if it cannot be loaded, is none, or has a version that is not known here.
        """
        self.path = path
        self.lock = threading.RLock()
        try:
            self._library = c.CDLL(str(path))
        except OSError as error:
            raise ProviderError(f"{path} cannot be loaded: {error}; install the system's own version of it") from None
        self.is_stand_in = hasattr(self._library, STAND_IN_MARKER)
        self.version = self._read_version()
        self._functions: dict[str, Any] = {}
        for name, known in FUNCTIONS.items():
            if known.since <= self.version and (found := getattr(self._library, name, None)) is not None:
                found.argtypes, found.restype = known.arguments, known.returns
                self._functions[name] = found
        lacking = [name for name in REQUIRED if name not in self._functions]
        if lacking:
            raise ProviderError(f"{path} is no complete Neuron Adapter: it has no {', '.join(lacking)}")

    def _read_version(self) -> Version:
        get_version = getattr(self._library, "Neuron_getVersion", None)
        if get_version is None:
            raise ProviderError(f"{self.path} is not a Neuron Adapter: it has no Neuron_getVersion")
        get_version.argtypes, get_version.restype = FUNCTIONS["Neuron_getVersion"].arguments, c.c_int
        found = RuntimeVersion()
        code = get_version(c.byref(found))
        if code != Result.NO_ERROR:
            raise ProviderError(f"{self.path} does not tell its version: it returns {code_name(code)}")
        version = Version(found.major, found.minor, found.patch)
        if version < FIRST_VERSION or version.major > NEWEST_MAJOR:
            first = ".".join(map(str, FIRST_VERSION))
            raise ProviderError(
                f"{self.path} is version {version} of the Neuron Adapter, and mace-apu knows {first} to "
                f"{NEWEST_MAJOR}.x; update {'the system' if version < FIRST_VERSION else 'mace-apu'}"
            )
        return version

    def has(self, function: str) -> bool:
        """Whether it offers a function."""
        return function in self._functions

    def code(self, function: str, *arguments: Any) -> int:
        """Call and return the result code (0 of a function that returns nothing).

        Raises:
            ProviderError: if the library lacks the function.
        """
        found = self._functions.get(function)
        if found is None:
            since = ".".join(map(str, FUNCTIONS[function].since))
            raise ProviderError(
                f"{self.path} (version {self.version}) has no {function}, which came with version {since}; "
                "update the system"
            )
        result = found(*arguments)
        return 0 if result is None else int(result)

    def call(self, doing: str, device: str, function: str, *arguments: Any) -> None:
        """Call; ``doing`` completes "cannot" in a message, ``device`` is whose call it is.

        Raises:
            ProviderError: the class that fits, if it returns an error.
        """
        code = self.code(function, *arguments)
        if code != Result.NO_ERROR:
            raise error_of(code, doing, device)


_loaded: dict[tuple[Path, int, int], Library] = {}
_lock = threading.Lock()


def load(path: Path) -> Library:
    """The library in a file, loaded now if it was not; a file that was replaced is another one.

    Raises:
        ProviderError: if it cannot be used.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise ProviderError(f"{path} cannot be read: {error.strerror or error}") from None
    key = (path, status.st_ino, status.st_mtime_ns)
    with _lock:
        if key not in _loaded:
            _loaded[key] = Library(path)
        return _loaded[key]
