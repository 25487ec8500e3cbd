"""What `mace monitor` shows: two looks at the published files and the sensors, and the rates between them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mace_core.errors import UsageError
from mace_core.host.private_files import NotPrivateError
from mace_core.host.rapl import watts
from mace_core.host.sensors import Readings, read_sensors
from mace_core.json_values import json_value
from mace_core.monitoring.board import Published, published
from mace_core.presentation import Column, Table, number, prose

HOW_TO_PUBLISH = (
    "No process of this user shows its sessions. Start it with MACE_MONITOR=1 in its environment, or call "
    "mace_core.monitoring.publish() in it."
)


@dataclass(frozen=True, slots=True)
class Look:
    """What there was at one moment (`time.monotonic`)."""

    time: float
    processes: tuple[Published, ...]
    readings: Readings


def look() -> Look:
    """Look now.

    Raises:
        UsageError: if others may write to the folder of the files.
    """
    try:
        return Look(time.monotonic(), tuple(published()), read_sensors())
    except NotPrivateError as error:
        raise UsageError(f"the published files are not to be trusted: {error}") from error


@dataclass(frozen=True, slots=True)
class View:
    """A look, and what changed since an earlier one.

    Attributes:
        now: the look.
        rates: by process and session, runs a second; only where the process wrote anew between the two looks.
        loads: the same, seconds spent in runs a second.
        watts: by domain of the energy counters.
    """

    now: Look
    rates: Mapping[tuple[int, int], float]
    loads: Mapping[tuple[int, int], float]
    watts: Mapping[str, float]

    @classmethod
    def of(cls, now: Look, earlier: Look | None) -> View:
        """``earlier`` None: there are no rates yet."""
        if earlier is None:
            return cls(now, {}, {}, {})
        rates, loads = {}, {}
        before = {(each.pid, each.started): each for each in earlier.processes}
        for process in now.processes:
            was = before.get((process.pid, process.started))
            if was is None or process.time <= was.time:
                continue
            seconds = process.time - was.time
            known = {session.get("number"): session for session in was.content["sessions"]}
            for session in process.content["sessions"]:
                old = known.get(session.get("number"))
                if old is not None:
                    key = (process.pid, int(session["number"]))
                    rates[key] = (_figure(session, "runs") - _figure(old, "runs")) / seconds
                    loads[key] = (_figure(session, "busy_seconds") - _figure(old, "busy_seconds")) / seconds
        power = watts(earlier.readings.counters, now.readings.counters, now.time - earlier.time)
        return cls(now, rates, loads, power)

    def as_data(self) -> dict[str, Any]:
        """Plain values."""
        processes = []
        for process in self.now.processes:
            data = process.as_data()
            data["sessions"] = [
                {
                    **session,
                    "runs_per_second": self.rates.get((process.pid, session.get("number"))),
                    "busy": self.loads.get((process.pid, session.get("number"))),
                }
                for session in data["sessions"]
            ]
            processes.append(data)
        readings = self.now.readings
        sensors = {
            "temperatures": [{"name": each.name, "celsius": each.celsius} for each in readings.temperatures],
            "clocks_mhz": {str(processor): rate for processor, rate in readings.clocks_mhz.items()},
            "cooling": [{"name": each.name, "state": each.state, "most": each.most} for each in readings.cooling],
            "supplies": [
                {"name": each.name, "kind": each.kind, "status": each.status, "percent": each.percent}
                for each in readings.supplies
            ],
            "watts": dict(self.watts),
            "absent": list(readings.absent),
        }
        hint = "" if self.now.processes else HOW_TO_PUBLISH
        found: dict[str, Any] = json_value({"processes": processes, "sensors": sensors, "hint": hint})
        return found

    def text(self, width: int | None) -> str:
        """For people; lines of at most ``width`` columns."""
        import textwrap

        blocks = []
        if self.now.processes:
            blocks += [self._sessions().text(width)]
            queues = self._queues()
            blocks += [queues.text(width)] if queues.rows else []
        lines = [] if self.now.processes else [HOW_TO_PUBLISH]
        lines += self._governors() + self._sensors()
        blocks.append("\n".join(textwrap.fill(line, width or 10_000, subsequent_indent="  ") for line in lines))
        return "\n\n".join(blocks)

    def _sessions(self) -> Table:
        columns = [number("pid"), Column("program", 1), prose("model", least=16), Column("devices")]
        columns += [number("runs"), number("failed"), number("runs/s"), number("busy", 1)]
        rows = []
        for process in self.now.processes:
            for session in process.content["sessions"]:
                key = (process.pid, int(session.get("number", 0)))
                rate, load = self.rates.get(key), self.loads.get(key)
                model = str(session.get("model", "")).rpartition("/")[2]
                devices = ", ".join(str(name) for name in session.get("devices", ()))
                row = [str(process.pid), process.program, model, devices]
                row += [str(session.get("runs", "")), str(session.get("failures") or "")]
                rows.append([*row, "" if rate is None else f"{rate:.1f}", "" if load is None else f"{load:.0%}"])
            if not process.content["sessions"]:
                rows.append([str(process.pid), process.program, "(no open session)", "", "", "", "", ""])
        return Table(columns, rows, "sessions")

    def _queues(self) -> Table:
        columns = [number("pid"), Column("queue"), number("running"), number("waiting"), number("room")]
        rows = [
            [str(process.pid), *(str(queue.get(key, "")) for key in ("device", "running", "waiting", "room"))]
            for process in self.now.processes
            for queue in process.content["queues"]
        ]
        return Table(columns, rows, "queues")

    def _governors(self) -> list[str]:
        return [
            f"governor of {process.pid}: mode '{state.get('mode')}' ({state.get('does')})"
            for process in self.now.processes
            if (state := process.content["governor"])
        ]

    def _sensors(self) -> list[str]:
        readings = self.now.readings
        lines = []
        if readings.temperatures:
            shown = ", ".join(f"{each.name} {each.celsius:.1f} °C" for each in readings.temperatures)
            lines.append(f"temperatures: {shown}")
        if readings.clocks_mhz:
            slowest, fastest = min(readings.clocks_mhz.values()), max(readings.clocks_mhz.values())
            lines.append(f"clocks: {len(readings.clocks_mhz)} processors at {slowest:.0f} to {fastest:.0f} MHz")
        if self.watts:
            lines.append("power: " + ", ".join(f"{name} {value:.1f} W" for name, value in self.watts.items()))
        active = [f"{each.name} {each.state}/{each.most}" for each in readings.cooling if each.state]
        if active:
            lines.append("cooling: " + ", ".join(active))
        for each in readings.supplies:
            if each.percent is not None:
                rate = "" if each.watts is None else f", {each.watts:.1f} W"
                lines.append(f"battery {each.name}: {each.percent:.0f} %, {each.status.lower()}{rate}")
        if readings.absent:
            lines.append(
                "not shown by this machine: " + ", ".join(each.partition(":")[0][3:] for each in readings.absent)
            )
        return lines


def _figure(session: Mapping[str, Any], key: str) -> float:
    value = session.get(key, 0)
    return float(value) if isinstance(value, int | float) else 0.0
