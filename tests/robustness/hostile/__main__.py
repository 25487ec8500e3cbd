"""Make hostile files, load them, and tell what became of them."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from pathlib import Path

from hostile.corpus import corpus
from hostile.judge import faults
from hostile.runner import Outcome, outcomes


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(prog="hostile", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bytewise", type=int, default=240, help="files with changed bytes")
    parser.add_argument("--fieldwise", type=int, default=160, help="files with changed fields")
    parser.add_argument("--only", default="", help="cases whose family or name holds this")
    parser.add_argument("--show", type=int, default=0, help="messages to print, chosen at random")
    parser.add_argument("--slowest", type=int, default=0, help="how many to print")
    parser.add_argument("--keep", type=Path, default=None, help="folder to write the files of failures to")
    given = parser.parse_args()
    cases = [c for c in corpus(given.seed, given.bytewise, given.fieldwise) if given.only in f"{c.family} {c.name}"]
    found: list[Outcome] = []
    bad = 0
    with tempfile.TemporaryDirectory() as scratch:
        for outcome in outcomes(cases, Path(scratch)):
            found.append(outcome)
            problems = wrong_with(outcome)
            if problems:
                bad += 1
                say(f"FAIL {outcome.case.family}: {outcome.case.name}: {'; '.join(problems)}")
                say(f"     {outcome.kind}: {outcome.message[:600]}")
                if outcome.trace:
                    say("     " + "\n     ".join(outcome.trace.strip().splitlines()[-14:]))
                if given.keep is not None:
                    folder = given.keep / outcome.case.name.replace("/", "_").replace(" ", "_")[:80]
                    folder.mkdir(parents=True, exist_ok=True)
                    outcome.case.write(folder)
    say(f"{len(found)} files, {bad} failures")
    for name, count in Counter(o.outcome for o in found).most_common():
        say(f"  {count:5d} {name}")
    say(
        f"slowest {max(o.cpu_seconds for o in found):.1f} s, largest {max(o.peak_bytes for o in found) / 2**20:.0f} MiB"
    )
    for outcome in sorted(found, key=lambda o: -o.seconds)[: given.slowest]:
        say(
            f"{outcome.seconds:6.1f} s {outcome.peak_bytes >> 20:5d} MiB {outcome.outcome}: "
            f"{outcome.case.family}: {outcome.case.name}"
        )
    told = [o for o in found if o.message]
    for outcome in random.Random(given.seed).sample(told, min(given.show, len(told))):
        say(f"- [{outcome.case.name}] {outcome.kind}: {outcome.message}")


def say(text: str) -> None:
    """A line on standard output, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def wrong_with(outcome: Outcome) -> list[str]:
    """What is wrong with how a file was dealt with; nothing if it is as it should be."""
    if outcome.outcome in ("died", "hung", "escaped"):
        return [outcome.outcome]
    problems = faults(outcome.message) if outcome.message else [] if outcome.outcome == "ran" else ["it is empty"]
    if outcome.peak_bytes > 2 << 30:
        problems.append(f"it took {outcome.peak_bytes >> 20} MiB")
    if "Traceback" in outcome.printed:
        problems.append("a traceback was printed")
    return problems


if __name__ == "__main__":
    main()
