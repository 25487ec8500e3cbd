"""What a part of a node takes on a device, and the shares with which two devices are ready at the same time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from mace_core.graph import Value
from mace_core.scheduler.costs.rates import Rates, Work, WorkKind
from mace_core.scheduler.costs.work import bytes_of, work_of
from mace_core.scheduler.planning.split_ways import Facts, Way
from mace_core.scheduler.planning.splitting import Link


class PartCosts:
    """The predicted times of a chain of nodes that is computed in parts."""

    def __init__(self, chain: Sequence[Link], way: Way, facts: Facts) -> None:
        self._facts = facts
        self._works = []
        for link in chain:
            work = work_of(link.node, facts.type)
            cut = {link.node.inputs[each.operand] for each in link.cuts} | set(link.node.outputs)
            whole = [value for value in link.node.inputs if value is not None and value not in cut]
            self._works.append((work, self._bytes(whole) if link is chain[0] else 0, link is not chain[0]))
        head = chain[0].node
        cut_operands = {each.operand for each in way.cuts}
        fed = [(place, value) for place, value in enumerate(head.inputs) if value is not None]
        fed = [(place, value) for place, value in fed if facts.content(value) is None and not _is_stored(value, facts)]
        self._fed_whole = self._bytes([value for place, value in fed if place not in cut_operands])
        self._fed_in_parts = self._bytes([value for place, value in fed if place in cut_operands])
        self.result_bytes = self._bytes([value for value in chain[-1].node.outputs if value is not None])

    def seconds(self, rates: Rates, share: float) -> float:
        """The time of a share of the work, whose operands are there."""
        found = 0.0
        for work, whole, follows in self._works:
            nbytes = whole + round((work.nbytes - whole) * share)
            found += rates.seconds(Work(work.kind, round(work.macs * share), nbytes, follows and not work.macs))
        return found

    def moving(self, source: Rates, target: Rates, share: float) -> float:
        """The time to bring what a share needs from one device to the other, and its result back."""
        found = 0.0
        for nbytes in (self._fed_whole, round(self._fed_in_parts * share)):
            if nbytes:
                found += source.from_device.time(nbytes) + target.to_device.time(nbytes)
        result = round(self.result_bytes * share)
        return found + target.from_device.time(result) + source.to_device.time(result)

    def joining(self, rates: Rates) -> float:
        """The time to put the parts of the result together."""
        return rates.seconds(Work(WorkKind.OTHER, 0, 2 * self.result_bytes))

    def _bytes(self, values: Sequence[Value]) -> int:
        return sum(bytes_of(self._facts.type(value)) for value in dict.fromkeys(values))


def _is_stored(value: Value, facts: Facts) -> bool:
    maker = value.producer
    read = None if maker is None or maker.op_type != "DequantizeLinear" else maker.input(0)
    return read is not None and facts.content(read) is not None


def balanced(units: int, first: Callable[[int], float], second: Callable[[int], float]) -> tuple[int, float]:
    """How many of the ``units`` the first of two devices takes so that both are done soonest, and when that is.

    Args:
        first, second: the time that a device takes for so many units; it rises.
    """
    low, high = 1, units - 1
    while low < high:
        middle = (low + high) // 2
        if first(middle) < second(units - middle):
            low = middle + 1
        else:
            high = middle
    near = [count for count in (low - 1, low) if 1 <= count < units]
    return min(((count, max(first(count), second(units - count))) for count in near), key=lambda found: found[1])


def weights_of(costs: PartCosts, rates: Sequence[Rates | None]) -> list[float]:
    """Shares in proportion to the measured speeds; equal ones where some are not known."""
    known = [each for each in rates if each is not None]
    if len(known) < len(rates):
        return [1.0] * len(rates)
    took = [costs.seconds(each, 1.0) for each in known]
    return [1 / max(seconds, math.ulp(1.0)) for seconds in took]
