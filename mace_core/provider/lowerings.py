"""A table of what a provider does for each operator, filled by the modules of a package as they are found.

LOWERINGS: Lowerings[Lower] = Lowerings("acme", __name__)

@LOWERINGS.register("Conv")                       # for every device of the provider
def conv(builder, node): ...

@LOWERINGS.register("Conv", device="acme-x2")     # goes first on that one
def conv_x2(builder, node): ...
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

from mace_core.errors import UsageError
from mace_core.host.fork_safe import fork_safe_rlock

E = TypeVar("E")


class Lowerings(Generic[E]):
    """Entries by operator: functions, or whatever a provider keeps of an operator.

    Modules that register are not listed by hand: the first look-up imports those of the package.  Looking up is cheap
    and may be done by several threads at once.
    """

    def __init__(self, provider: str, package: str, prefixes: Sequence[str] = ("",)) -> None:
        """
        Args:
            provider: for messages.
            package: the name of the package whose modules, and those of packages below it, register.
            prefixes: how the names of these modules begin.
        """
        self._provider = provider
        self._package = package
        self._prefixes = tuple(prefixes)
        self._entries: dict[tuple[str, str, str], E] = {}
        self._is_loaded = False
        self._lock = fork_safe_rlock()

    def register(self, *op_types: str, domain: str = "", device: str = "") -> Callable[[E], E]:
        """Decorator: the entry of these operators of ``domain``.

        Args:
            op_types: names of operators.
            domain: their domain; "" for the default one.
            device: the kind of device it is for, a word of the provider's own; "" for all that have no entry of their
                own.

        Raises:
            UsageError: if one of them has such an entry already.
        """

        def keep(entry: E) -> E:
            self.add(dict.fromkeys(op_types, entry), domain=domain, device=device)
            return entry

        return keep

    def add(self, entries: Mapping[str, E], *, domain: str = "", device: str = "") -> None:
        """Register many entries by the names of their operators, see `register`.

        Raises:
            UsageError: if one of them has such an entry already.
        """
        for op_type, entry in entries.items():
            key = (domain, op_type, device)
            if key in self._entries:
                where = f" on {device}" if device else ""
                raise UsageError(
                    f"the {self._provider} provider has two lowerings of {domain or 'ai.onnx'}.{op_type}{where}"
                )
            self._entries[key] = entry

    def find(self, domain: str, op_type: str, device: str = "") -> E | None:
        """The entry of an operator: that of the device, else the common one, else None."""
        if not self._is_loaded:
            self.load()
        found = self._entries.get((domain, op_type, device)) if device else None
        return self._entries.get((domain, op_type, "")) if found is None else found

    def operators(self) -> frozenset[tuple[str, str]]:
        """``(domain, operator)`` of everything that has an entry."""
        self.load()
        return frozenset((domain, op_type) for domain, op_type, _ in self._entries)

    def load(self) -> None:
        """Import the modules that register.

        Raises:
            BaseException: whatever importing one of them raised.
        """
        with self._lock:
            if self._is_loaded:
                return
            package = importlib.import_module(self._package)
            for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
                if module.name.rpartition(".")[2].startswith(self._prefixes):
                    importlib.import_module(module.name)
            self._is_loaded = True  # now, not before: another thread must not find half of the table
