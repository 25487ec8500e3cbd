"""What the library is told about speed and power: preferences and hints, each from an option of the provider.

A hint changes no result.  One that the library does not have or does not take is left out, and told as a note.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from mace_apu.neuron.constants import Preference
from mace_apu.neuron.handles import NeuronCompilation, NeuronDevices, NeuronExecution, NeuronModel
from mace_apu.neuron.types import FUNCTIONS
from mace_apu.options import Hints
from mace_core.errors import DeviceLostError, OutOfMemoryError, ProviderError, TransientError

PREFERENCES = {
    "latency": Preference.FAST_SINGLE_ANSWER,
    "low_power": Preference.LOW_POWER,
    "sustained": Preference.SUSTAINED_SPEED,
    "boost": Preference.TURBO_BOOST,
}
HIGHEST = 100
"""Percent of the clock that a boost may ask for."""

_GRAVE = (OutOfMemoryError, DeviceLostError, TransientError)
"""Failures that say nothing about the hint."""


@dataclass
class Tuning:
    """Hints for the objects of one library, and what became of them.

    Attributes:
        notes: hints that were left out, each once.
    """

    devices: NeuronDevices
    hints: Hints
    notes: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def create(self, model: NeuronModel) -> NeuronCompilation:
        """A compilation, with the options for its creation.

        Raises:
            ProviderError: if the library makes none, with or without them.
        """
        options, found = self.hints.creation_options, []
        if options:
            self._try(
                "creation_options",
                "NeuronCompilation_createWithOptions",
                lambda: found.append(NeuronCompilation(model, options=options)),
            )
        return found[0] if found else NeuronCompilation(model)

    def apply_to_compilation(self, compilation: NeuronCompilation) -> None:
        """Before it is finished."""
        hints = self.hints
        preference = PREFERENCES[hints.performance]
        self._try("performance", "NeuronCompilation_setPreference", lambda: compilation.prefer(preference))
        if (priority := hints.priority) is not None:
            self._try("priority", "NeuronCompilation_setPriority", lambda: compilation.set_priority(priority))
        if (optimization := hints.optimization) is not None:
            function = "NeuronCompilation_setOptimizationHint"
            self._try("optimization", function, lambda: compilation.hint(optimization))
        if text := self._compiler_options():
            function = "NeuronCompilation_setOptimizationString"
            name = "compiler_options" if hints.compiler_options else "l1_memory"
            self._try(name, function, lambda: compilation.options(text))

    def apply_to_execution(self, execution: NeuronExecution) -> None:
        """Before it runs."""
        boost = HIGHEST if self.hints.boost is None and self.hints.performance == "boost" else self.hints.boost
        if boost is not None:
            name = "performance" if self.hints.boost is None else "boost"
            self._try(name, "NeuronExecution_setBoostHint", lambda: execution.boost(boost))

    def note(self, text: str) -> None:
        """Tell the user, once."""
        with self._lock:
            if text not in self.notes:
                self.notes.append(text)

    def _compiler_options(self) -> str:
        """The options with the size of the APU's own memory, which the compiler takes in KiB."""
        wanted, given = self.hints.l1_memory, self.hints.compiler_options
        if wanted is None:
            return given
        there: list[int] = []
        self._try("l1_memory", "Neuron_getL1MemorySizeKb", lambda: there.append(self.devices.l1_memory()))
        if not there:
            return given
        if wanted > there[0]:
            self.note(f"the apu option 'l1_memory' asks for {wanted} KiB, the APU has {there[0]}, which are used")
        size = min(wanted or there[0], there[0])
        return f"{given} --l1-size-kb={size}".strip()

    def _try(self, option: str, function: str, call: Callable[[], object]) -> None:
        library = self.devices.library
        if not library.has(function):
            since = ".".join(map(str, FUNCTIONS[function].since))
            lacks = f"the Neuron Adapter {library.version} has no {function}, which came with {since}"
            self.note(f"the apu option '{option}' has no effect: {lacks}")
            return
        try:
            call()
        except _GRAVE:
            raise
        except ProviderError as error:
            self.note(f"the apu option '{option}' has no effect: {error}")
