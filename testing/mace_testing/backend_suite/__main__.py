"""``python -m mace_testing.backend_suite``: judge the suite on a provider and print the figures."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import sys
import time
import warnings
from pathlib import Path

from mace_core.errors import MaceError
from mace_core.provider.inventory import find_device
from mace_testing.backend_suite.cases import quick_names, suite_cases
from mace_testing.backend_suite.judge import Conditions, Verdict
from mace_testing.backend_suite.report import operator_page, parts, summary
from mace_testing.backend_suite.workers import judge_all


def main(arguments: list[str] | None = None) -> int:
    """Returns 1 if the provider computed something wrong, 2 if there is no such device, else 0."""
    parser = argparse.ArgumentParser(prog="python -m mace_testing.backend_suite", description=__doc__)
    parser.add_argument("--provider", default="cpu", help="provider or provider:device (default cpu)")
    parser.add_argument("--quick", action="store_true", help="a fixed sample only")
    parser.add_argument("--match", default="", help="only cases whose name contains this")
    parser.add_argument("--rtol", type=float, default=0.0, help="relative tolerance, where wider than a case's own")
    parser.add_argument("--atol", type=float, default=0.0, help="absolute tolerance, where wider than a case's own")
    parser.add_argument("--half", action="store_true", help="the device rounds its inputs to float16")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every verdict")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the documentation page")
    options = parser.parse_args(arguments)
    names = [name for name in (quick_names() if options.quick else suite_cases()) if options.match in name]
    try:
        device = find_device(options.provider)
    except MaceError as error:  # else every case would look like a wrong result
        print(f"{error}", file=sys.stderr)  # noqa: T201
        return 2
    start = time.monotonic()
    conditions = Conditions(rtol=options.rtol, atol=options.atol, half=options.half)
    verdicts: list[Verdict] = []
    for verdict in judge_all(names, options.provider, jobs=options.jobs, conditions=conditions):
        verdicts.append(verdict)
        if verdict.wrong:  # long before the summary
            print(f"\rwrong: {verdict.name}: {verdict.reason}", file=sys.stderr)  # noqa: T201
        if sys.stderr.isatty():
            print(f"\r{len(verdicts)}/{len(names)}", end="", file=sys.stderr)  # noqa: T201
    verdicts.sort(key=lambda verdict: (verdict.kind, verdict.name))
    print(summary(options.provider, verdicts))  # noqa: T201
    print(f"\n{time.monotonic() - start:.0f} s")  # noqa: T201
    if options.json is not None:
        found = {
            "provider": options.provider,
            "figures": {title: dataclasses.asdict(part) for title, part in parts(verdicts)},
            "cases": [{**dataclasses.asdict(verdict), "outcome": verdict.outcome.value} for verdict in verdicts],
        }
        options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    if options.markdown is not None:
        page = operator_page(options.provider, device.name, verdicts, conditions)
        options.markdown.write_text(page, encoding="utf-8")
    return int(any(verdict.wrong for verdict in verdicts))


if __name__ == "__main__":
    # A case that is refused is a verdict, not news; only the command itself may silence the whole process.
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    sys.exit(main())
