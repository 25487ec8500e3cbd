"""`mace benchmark --sections mace`: the figures in the form that users of Xiaomi's MACE know."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from mace_core.errors import UsageError

if TYPE_CHECKING:
    from mace_core.report.mace_sections import MaceSections
    from mace_core.session import Session

FORMS = ("mace",)


def check_sections(form: str, given: Mapping[str, bool]) -> None:
    """Refuse a form that there is not, and options that the form has no place for.

    Args:
        form: of ``--sections``.
        given: by option, whether it was given.

    Raises:
        UsageError: saying which.
    """
    if form not in FORMS:
        raise UsageError(f"--sections {form}: there is no such form; it is {' or '.join(FORMS)}")
    for option, is_given in given.items():
        if is_given:
            raise UsageError(f"--sections {form} measures one run after the other and has no place for {option}")


def measured(opened: Session, model: str, feeds: Mapping[str, Any], *, warmup: int, runs: int) -> MaceSections:
    """The sections, with progress."""
    from mace_core.cli.output import progress
    from mace_core.report.mace_sections import measure_sections

    with progress("Running"):
        return measure_sections(opened, model, feeds, warmup=warmup, runs=runs)


def printer(found: MaceSections, virtual: Mapping[str, str]) -> Callable[[], None]:
    """What prints them: all rows, since the sections say themselves how many they show."""
    from mace_core.cli.output import print_folded, print_line, print_table

    def text() -> None:
        for device, name in virtual.items():
            print_folded(f"NOT A MEASURE OF SPEED: {device} is virtual ({name})")
        for table in found.tables():
            print_table(table)
            print_line()
        for note in found.notes():
            print_folded(note)

    return text
