"""What a placement by cost went by, as it is kept and told: the choice, the runner-up, and what either really took."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from mace_core.scheduler.planning.devices import DevicePool
    from mace_core.scheduler.planning.model_times import PartTimes


class Placed(NamedTuple):
    """A whole placement.

    Attributes:
        words: its devices and its prediction.
        key: of `placement_key`, under which its time is kept.
    """

    words: str
    key: str


class Elsewhere(NamedTuple):
    """Where the runner-up has the nodes of a partition.

    Attributes:
        device: of its partitions, ``a and b``.
        seconds: predicted, inputs brought there included.
        partitions: device and nodes of its partitions, where these hold no other nodes; else nothing.
    """

    device: str
    seconds: float
    partitions: tuple[tuple[str, tuple[str, ...]], ...]


class Costs(NamedTuple):
    """What a placement by cost went by.

    Attributes:
        policy: the policy, and what is least.
        choice: what was chosen.
        runner_up: the best one on other devices; None where there is none.
        remarks: what else there is to say, as the rest of a sentence.
        predicted: for each partition the seconds that it takes, its inputs brought there included.
        elsewhere: for each partition the same of the runner-up; () where there is none.
    """

    policy: str
    choice: Placed
    runner_up: Placed | None
    remarks: str
    predicted: tuple[float, ...]
    elsewhere: tuple[Elsewhere, ...] = ()

    @staticmethod
    def from_data(data: Sequence[Any]) -> Costs:
        """From what JSON makes of one.

        Raises:
            ValueError, TypeError, IndexError: if ``data`` is none.
        """
        policy, choice, runner_up, remarks, predicted, elsewhere = data
        return Costs(
            str(policy),
            _placed(choice),
            None if runner_up is None else _placed(runner_up),
            str(remarks),
            tuple(map(float, predicted)),
            tuple(
                Elsewhere(str(device), float(seconds), tuple((str(d), tuple(map(str, names))) for d, names in parts))
                for device, seconds, parts in elsewhere
            ),
        )

    def summary(self, times: PartTimes | None, pool: DevicePool) -> str:
        """The choice and the runner-up with what is known of either, in a sentence."""
        took = _run(self.choice, times, pool)
        text = f"policy '{self.policy}': {self.choice.words}"
        text += "" if took is None else f", measured {milliseconds(took)}"
        if self.runner_up is not None:
            took = _run(self.runner_up, times, pool)
            text += f"; next best {self.runner_up.words}, "
            text += "not measured" if took is None else f"measured {milliseconds(took)}"
        return text + self.remarks


def _placed(data: Sequence[Any]) -> Placed:
    words, key = data
    return Placed(str(words), str(key))


def _run(placed: Placed, times: PartTimes | None, pool: DevicePool) -> float | None:
    return None if times is None else times.run(placed.key, pool.devices)


def measured_seconds(
    partitions: Iterable[tuple[str, tuple[str, ...]]], times: PartTimes | None, pool: DevicePool
) -> float | None:
    """What partitions took, one after the other; None where one of them was not measured, or there is none."""
    found = []
    for name, nodes in partitions:
        device = pool.find(name)
        seconds = None if times is None or device is None else times.partitions(device).get(nodes)
        if seconds is None:
            return None
        found.append(seconds)
    return sum(found) if found else None


def milliseconds(seconds: float) -> str:
    """``0.123 ms``."""
    return f"{seconds * 1e3:.3g} ms"
