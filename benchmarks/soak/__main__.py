"""Mixed sessions with faults and cancellations for a long time: ``python -m benchmarks.soak --minutes 30``.

Silero VAD as a stream, mobilenet_v2 with deadlines and cancellations, PP-OCRv4 recognition in changing shapes and
batches, the example accelerator with injected faults of every kind (it also hangs), a server with clients in this
process, and sessions that are opened and closed.  Every request is accounted for, every answer is compared with what
the processor alone computed at the start.  The exit code is 1, and one sentence says why, where an answer is missing,
wrong or given twice, or where memory, threads, open files or temporary files grow.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import logging
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.soak.faulty_device import Faults, faulty
from benchmarks.soak.ledger import GOOD, Ledger
from benchmarks.soak.loads import all_loads
from benchmarks.soak.watching import Watch, draw, growth, verdict, write_table
from mace_core import activity
from mace_core.provider.registry import default_registry

ANSWER_SECONDS = 300.0
"""So long, after the last request, answers may take."""


def main(arguments: list[str] | None = None) -> int:
    """Runs the soak; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fault-rate", type=float, default=0.02, help="share of the device's runs that fail")
    parser.add_argument("--hang-every", type=float, default=180.0, help="seconds between compilations that hang")
    parser.add_argument("--chart", type=Path, help="a picture of what the process held over time")
    parser.add_argument("--csv", type=Path, help="the samples")
    parser.add_argument("--verbose", action="store_true", help="show warnings: there is one for each fault")
    given = parser.parse_args(arguments)
    if given.chart is not None and importlib.util.find_spec("matplotlib") is None:
        parser.error("--chart needs matplotlib: pip install matplotlib")
    if not given.verbose:
        logging.getLogger("mace").setLevel(logging.CRITICAL)
    faults = Faults(given.fault_rate, given.seed, hang_seconds=25.0, hang_every=given.hang_every)
    with tempfile.TemporaryDirectory(prefix="mace-soak-") as folder:
        return _soak(given, faults, Path(folder))


def _soak(given: argparse.Namespace, faults: Faults, folder: Path) -> int:
    say, seconds = sys.stdout.write, 60 * given.minutes
    ledger = Ledger()
    scratch = folder / "tmp"
    scratch.mkdir()
    before, tempfile.tempdir = tempfile.tempdir, str(scratch)
    registry = default_registry()
    registry.register(faulty(faults))
    try:
        loads = all_loads(str(folder), ledger, given.seed)
        with Watch(scratch, lambda: sum(map(ledger.total, GOOD)), max(seconds / 900, 0.25)) as watch:
            for load in loads:
                load.start()
            end, next_line = time.monotonic() + seconds, 0.0
            while (left := end - time.monotonic()) > 0:
                if seconds - left >= next_line:
                    next_line += max(seconds / 15, 15.0)
                    say(_line(watch, ledger))
                    sys.stdout.flush()
                if ledger.verdict():
                    break  # nothing gets better by going on
                time.sleep(min(left, 0.5))
        counters = {
            name: sum(getattr(each, name) for each in activity.sessions()) for name in ("retried", "moved", "rested")
        }
        faults.ended.set()
        for load in loads:
            load.stopped.set()
        for load in loads:
            load.stop(ANSWER_SECONDS)
        ledger.close()
    finally:
        registry.unregister("acme")
        tempfile.tempdir = before
    gc.collect()
    return _report(given, watch, ledger, faults, counters)


def _line(watch: Watch, ledger: Ledger) -> str:
    now = watch.sample()
    return (
        f"{now.seconds / 60:5.1f} min  {now.memory_mb:7.1f} MB  {now.threads:3d} threads  {now.files:3d} files  "
        f"{now.temporary} temporary  {ledger.total('asked')} asked, {now.answered} answered\n"
    )


def _report(given: argparse.Namespace, watch: Watch, ledger: Ledger, faults: Faults, counters: dict[str, int]) -> int:
    say = sys.stdout.write
    for load, counts in sorted(ledger.counts.items()):
        say(f"  {load:14} {', '.join(f'{count} {outcome}' for outcome, count in counts.items())}\n")
    say(f"injected: {', '.join(f'{count} {kind}' for kind, count in faults.happened.most_common()) or 'no fault'}\n")
    say(f"runs: {', '.join(f'{count} {deed}' for deed, count in counters.items())}\n")
    samples = watch.samples
    for what in ("memory_mb", "threads", "files", "temporary"):
        values = [getattr(each, what) for each in samples]
        say(f"  {what:10} {min(values):8.1f} to {max(values):8.1f}, after warming up {growth(samples, what):+.2f}\n")
    fault = "; ".join(filter(None, (ledger.verdict(), verdict(samples))))
    if fault:
        say(f"the soak of {given.minutes:g} minutes failed: {fault}\n")
    else:
        say(f"{given.minutes:g} minutes: {ledger.total('asked')} requests, each answered once; nothing grew\n")
    sys.stdout.flush()
    if given.csv is not None:
        write_table(samples, given.csv)
    if given.chart is not None:
        draw(samples, given.chart, f"{given.minutes:g} minutes of mixed sessions, faults and cancellations")
    return 1 if fault else 0


if __name__ == "__main__":
    sys.exit(main())
