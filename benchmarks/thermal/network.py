"""A thermal RC network: heat capacities joined by thermal resistances, heated by power and cooled by the air.

The equations are those of lumped thermal models as HotSpot's (Skadron et al., "Temperature-aware microarchitecture",
ISCA 2003): C dT/dt = P - G (T - ambient), with G the matrix of conductances.  Between two changes of the power the
solution is exact (matrix exponential), so the size of a step does not change the result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

AIR = "air"

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Resistance:
    """Heat flows between two nodes (or a node and the air): kelvins for each watt."""

    first: str
    second: str
    kelvins_per_watt: float


class Network:
    """Temperatures of some nodes.

    Args:
        capacities: joules that heat a node by one kelvin, by name.
        resistances: between nodes, and at least one to the air.
        ambient: of the air, degrees Celsius; all nodes begin there.
    """

    def __init__(
        self, capacities: Mapping[str, float], resistances: Sequence[Resistance], ambient: float = 25.0
    ) -> None:
        self.names = tuple(capacities)
        self.ambient = ambient
        place = {name: index for index, name in enumerate(self.names)}
        conductance = np.zeros((len(place), len(place)))
        for each in resistances:
            flow = 1.0 / each.kelvins_per_watt
            ends = [place[name] for name in (each.first, each.second) if name != AIR]
            for end in ends:
                conductance[end, end] += flow
            if len(ends) == 2:
                conductance[ends[0], ends[1]] -= flow
                conductance[ends[1], ends[0]] -= flow
        self._conductance = conductance
        # symmetric in coordinates scaled by the root of the capacities: real eigenvalues, and none that is growth
        self._root = np.sqrt(np.array([capacities[name] for name in self.names]))
        self._rates, self._modes = np.linalg.eigh(conductance / np.outer(self._root, self._root))
        self._above: Vector = np.zeros(len(place))

    @property
    def temperatures(self) -> dict[str, float]:
        """Degrees Celsius by node."""
        return {name: float(self.ambient + above) for name, above in zip(self.names, self._above, strict=True)}

    def steady(self, watts: Mapping[str, float]) -> dict[str, float]:
        """Where temperatures end under constant power."""
        above = np.linalg.solve(self._conductance, self._power(watts))
        return {name: float(self.ambient + each) for name, each in zip(self.names, above, strict=True)}

    def advance(self, seconds: float, watts: Mapping[str, float]) -> None:
        """Let ``seconds`` pass under constant power at some nodes."""
        end = np.linalg.solve(self._conductance, self._power(watts))
        difference = self._modes.T @ (self._root * (self._above - end))
        decayed = np.exp(-self._rates * seconds) * difference
        self._above = end + (self._modes @ decayed) / self._root

    def _power(self, watts: Mapping[str, float]) -> Vector:
        return np.array([watts.get(name, 0.0) for name in self.names])


def small_device(ambient: float = 25.0) -> Network:
    """A small device without a fan.

    The constants are round numbers in the range of phones and single-board computers: the die follows its power within
    a second or two, the package within a minute, the case within a quarter of an hour; 5 W bring the die to about
    100 degrees.  They describe no product.
    """
    return Network(
        {"die": 1.5, "package": 12.0, "skin": 90.0},
        [Resistance("die", "package", 1.5), Resistance("package", "skin", 5.0), Resistance("skin", AIR, 9.0)],
        ambient,
    )


IDLE_WATTS = 0.5
WATTS_PER_BUSY_PROCESSOR = 2.2


def power(busy_processors: float) -> dict[str, float]:
    """Watts at the die, where so many processors are at work on average."""
    return {"die": IDLE_WATTS + WATTS_PER_BUSY_PROCESSOR * busy_processors}
