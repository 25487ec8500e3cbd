"""What `mace tune-threads` shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mace_core.measurement.statistics import estimate
from mace_core.presentation import Column, Table, number
from mace_core.presentation.charts import Chart, Line, Lines

if TYPE_CHECKING:
    from mace_core.measurement import Advice, Measured, ThreadAdvice

NOISY = 0.15
"""From this on the machine is said to be busy."""


def table(model: str, found: ThreadAdvice) -> Table:
    """A row for each candidate."""
    rows = []
    for each in found.measured:
        latency, rate = estimate(each.latencies), estimate(each.rates)
        uses = [name for name, advice in _purposes(found) if advice.chosen == each.candidate]
        rows.append(
            (
                str(each.candidate),
                f"{latency.median * 1e3:.3f}",
                f"{latency.low * 1e3:.3f}–{latency.high * 1e3:.3f}",
                str(each.streams),
                f"{rate.median:.1f}",
                f"{rate.low:.1f}–{rate.high:.1f}",
                f"{estimate(each.processor_seconds).median * 1e3:.3f}",
                f"{estimate(each.joules).median:.4f}" if each.joules else "",
                ", ".join(uses),
            )
        )
    columns = (
        *(Column("threads"), number("ms"), number("95 %", 4), number("streams", 5), number("runs/s", 1)),
        *(number("95 %", 6), number("processor ms", 2), number("J", 3), Column("best for")),
    )
    return Table(columns, rows, f"{model}, {found.rounds} rounds")


def conclusions(found: ThreadAdvice) -> list[str]:
    """What to do, and how sure that is."""
    by_candidate = {each.candidate: each for each in found.measured}
    lines = [_conclusion(name, advice) for name, advice in _purposes(found)]
    fewest = min(found.measured, key=lambda each: each.candidate.threads)
    lines.append(_cost(by_candidate[found.latency.chosen], fewest))
    lines.append(f"the same candidate differed from round to round by {found.disturbance:.0%}")
    if found.disturbance > NOISY:
        lines[-1] += ": the machine has other work to do, and hides small differences; measure when it is quiet"
    return lines


def _conclusion(purpose: str, advice: Advice) -> str:
    word = "latency" if purpose == "latency" else "throughput"
    if not advice.matters and advice.hurts:
        lead = advice.lead
        faster = f"{lead.median:.2f} times as fast as {advice.worst} ({lead.low:.2f} to {lead.high:.2f})"
        return f"{word}: use {advice.chosen}; it is {faster}"
    if not advice.matters:
        return f"{word}: the number of threads makes no difference that could be told from noise; use {advice.chosen}"
    gain = advice.gain
    sure = f"{gain.median:.2f} times the speed of the fewest threads ({gain.low:.2f} to {gain.high:.2f})"
    others = [str(each) for each in advice.ties if each != advice.chosen]
    same = f"; {', '.join(others)} cannot be told from it" if others else ""
    return f"{word}: use {advice.chosen} ({sure}){same}"


def _cost(chosen: Measured, fewest: Measured) -> str:
    time = estimate(chosen.processor_seconds).median
    least = estimate(fewest.processor_seconds).median
    text = f"cost of a run with {chosen.candidate}: {time * 1e3:.3f} ms of processor time"
    if chosen is not fewest and least:
        text += f", {time / least:.2f} times that with {fewest.candidate}"
    if chosen.joules and fewest.joules:
        energy, little = estimate(chosen.joules).median, estimate(fewest.joules).median
        return f"{text}; {energy:.4f} J, {energy / little:.2f} times" if little else f"{text}; {energy:.4f} J"
    return f"{text}; its energy is not known: this system shows no counters of the processor's energy to this user"


def charts(found: ThreadAdvice) -> list[Chart]:
    """Latency and throughput over the number of threads, with the intervals that they lie in."""
    kinds = list(dict.fromkeys(each.candidate.affinity for each in found.measured))
    counts = sorted({float(each.candidate.threads) for each in found.measured})

    def lines(values: str, factor: float) -> list[Line]:
        made = []
        for kind in kinds:
            own = [each for each in found.measured if each.candidate.affinity == kind]
            estimates = [estimate(getattr(each, values)) for each in own]
            name = "any processors" if kind == "none" else f"{kind} processors"
            middle, low, high = (
                [getattr(each, part) * factor for each in estimates] for part in ("median", "low", "high")
            )
            made.append(Line(name, [float(each.candidate.threads) for each in own], middle, low, high, dots=True))
        return made

    def words(x: float) -> str:
        return f"{x:g} thread{'s' * (x != 1)}"

    return [
        Lines("latency of a run", lines("latencies", 1e3), words, lambda y: f"{y:.3g} ms", every=counts),
        Lines(
            "runs a second, side by side",
            lines("rates", 1.0),
            words,
            lambda y: f"{y:.4g}/s",
            every=counts,
        ),
    ]


def _purposes(found: ThreadAdvice) -> list[tuple[str, Advice]]:
    return [("latency", found.latency), ("throughput", found.throughput)]
