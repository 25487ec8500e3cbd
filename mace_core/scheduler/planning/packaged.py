"""What a model's package holds for the devices of a session, and why something of it is not used."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mace_core.errors import MaceError, PackageError
from mace_core.graph import GraphView
from mace_core.package import Package
from mace_core.package.compiled import PLACEMENT, CompiledPart, StoredPacks, compiled_parts
from mace_core.provider.border import failure_of
from mace_core.provider.weights import WeightFiles, using_weight_files
from mace_core.scheduler.planning.digests import digest_of
from mace_core.scheduler.planning.placement import restore_views
from mace_core.scheduler.planning.stored_forms import Restored, compatibility_key, stores, worth_of

if TYPE_CHECKING:
    from mace_core.scheduler.planning.devices import SessionDevice

_log = logging.getLogger("mace")

_MOST_DIFFERENCES = 4
_LONGEST_WORD = 60


class PackagedParts:
    """The compiled parts of a package.

    Attributes:
        label: how messages call the package.
    """

    def __init__(self, package: Package) -> None:
        self.label = package.label
        self._package = package
        self._parts = list(compiled_parts(package))
        self._placements = {section.name: section for section in package.of_kind(PLACEMENT)}
        packs = StoredPacks(package)
        self._weights = WeightFiles(packs, packs, lambda: package.digest)
        self._missed: dict[str, list[str]] = {}

    @contextlib.contextmanager
    def resolving(self) -> Iterator[None]:
        """An importer compares nodes with the schemas of their operators, which a package does without: where a forged
        graph has nodes that no importer lets pass, their rules fail in whatever way.

        Raises:
            PackageError: in the place of what Python raises then.
        """
        try:
            yield
        except MaceError:
            raise
        except (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise PackageError(
                f"{self.label} is damaged: a node of its graph is not what its operator takes; compile it again"
            ) from error

    def shapes(self, names: Sequence[str]) -> list[dict[str, tuple[int, ...]]]:
        """The shapes of these inputs that something was compiled for; what is written otherwise is left out."""
        text = ", ".join(f"{re.escape(name)}=(scalar|[0-9]{{1,18}}(?:x[0-9]{{1,18}})*)" for name in names)
        found = [re.fullmatch(text, signature) for signature in dict.fromkeys(part.signature for part in self._parts)]
        return [
            {
                name: () if sizes == "scalar" else tuple(map(int, sizes.split("x")))
                for name, sizes in zip(names, match.groups(), strict=True)
            }
            for match in found
            if match is not None
        ]

    def placement(self, words: Sequence[str]) -> bytes | None:
        """How the model was placed under what ``words`` say."""
        section = self._placements.get(digest_of(*words))
        return None if section is None else bytes(self._package.view(section))

    def restore(self, device: SessionDevice, views: Sequence[GraphView], words: Sequence[str]) -> Restored | None:
        """The subgraphs, if the device takes what is stored of them; where it does not, the reason is told and kept.

        Args:
            device: open.
            views: the subgraphs.
            words: what tells them from others of the same graph.
        """
        if not self._parts or not stores(device.backend):
            return None
        match = digest_of(*words)
        own = [part for part in self._parts if part.provider == device.device.provider]
        reasons: list[str] = []
        for part in sorted((part for part in own if part.match == match), key=lambda one: one.device != device.name):
            found = self._restored(device, views, part)
            if not isinstance(found, str):
                return found
            reasons.append(found)
        self.miss(device, reasons or list(self._not_there(device, own)))
        return None

    def miss(self, device: SessionDevice, reasons: Sequence[str]) -> None:
        """Tell, once, why nothing of the package is used; that a device takes what others leave over is no surprise."""
        known = self._missed.setdefault(device.name, [])
        for reason in reasons:
            if reason in known:
                continue
            known.append(reason)
            is_expected = device.is_fallback and not any(p.provider == device.device.provider for p in self._parts)
            _log.log(
                logging.INFO if is_expected else logging.WARNING,
                "%s: nothing that was compiled there serves %s, which takes the stored graph instead: %s",
                self.label,
                device.name,
                reason,
            )

    def miss_sizes(self, device: SessionDevice) -> None:
        """A plan for many shapes is made, since one came that nothing was compiled for."""
        if self._parts and stores(device.backend):
            own = [part for part in self._parts if part.provider == device.device.provider]
            self.miss(device, list(self._not_there(device, own)))

    def note(self, device: SessionDevice) -> str:
        """Why nothing of the package was used for a device, as the rest of a sentence."""
        return "".join(f"; not from {self.label}: {reason}" for reason in self._missed.get(device.name, ())[-1:])

    def _restored(self, device: SessionDevice, views: Sequence[GraphView], part: CompiledPart) -> Restored | str:
        """The subgraphs of a part that is for these views, or why they cannot be had."""
        assert part.section is not None
        if part.options != device.compile_options:
            return (
                f"what it holds for {part.device} was compiled with the options {part.options}, and this session has "
                f"{device.compile_options}"
            )
        worth = worth_of(device, part.compatibility)
        if worth is None:
            return f"what it holds for {part.device} does not fit: {self._difference(device, part)}"
        try:
            with using_weight_files(self._weights):
                found = restore_views(device, views, self._package.view(part.section))
        except Exception as error:  # whatever a provider makes of a blob that it cannot read
            return f"what it holds for {part.device} cannot be used ({failure_of(error)})"
        return Restored(found, worth, self.label)

    def _not_there(self, device: SessionDevice, own: Sequence[CompiledPart]) -> Iterator[str]:
        if own:
            shapes = ", ".join(dict.fromkeys(part.signature for part in own))
            name = device.device.provider
            yield f"it holds nothing of {name} for these subgraphs and shapes (it was compiled for {shapes})"
        else:
            devices = ", ".join(dict.fromkeys(part.device for part in self._parts)) or "no device"
            yield f"it holds nothing for {device.device.provider} (it was compiled for {devices})"

    def _difference(self, device: SessionDevice, part: CompiledPart) -> str:
        """The words in which two compatibility keys differ."""
        try:
            own = compatibility_key(device)
        except Exception as error:  # it was asked for its opinion without that
            return failure_of(error)
        there, here = _words(part.compatibility), _words(own)
        gone = [word for word in there if word not in here]
        new = [word for word in here if word not in there]
        if not gone and not new:
            return f"{device.name} does not take what was compiled under '{part.compatibility:.{_LONGEST_WORD}}'"
        return f"it was made with {_listed(gone)}, and {device.name} has {_listed(new)}"


def _words(key: str) -> list[str]:
    return re.split("; ?" if ";" in key else " ", key)


def _listed(words: Sequence[str]) -> str:
    shown = [word[:_LONGEST_WORD] for word in words[:_MOST_DIFFERENCES]]
    return ", ".join(shown) or "nothing of that"
