"""What a package says of the steps before and after its model, for people; the steps themselves are in the graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mace_core.errors import PackageError
from mace_core.package.reader import Package
from mace_core.package.writer import NewSection

STEPS = "steps"
"""The kind of section."""

STEPS_FORM = 1
"""Of the facts; told in them."""

WHEN = ("before", "after")

Described = Mapping[str, Sequence[Mapping[str, Any]]]
"""By "before" and "after", what each step does: plain values."""


def steps_section(steps: Described) -> NewSection:
    """The section that describes steps."""
    return NewSection(STEPS, "", [], facts={"form": STEPS_FORM, **{when: list(steps.get(when, ())) for when in WHEN}})


def read_steps(package: Package) -> dict[str, list[dict[str, Any]]]:
    """The descriptions in a package; empty where it has no steps.

    Raises:
        PackageError: if they are not what they should be.
    """
    section = package.find(STEPS, "")
    if section is None or section.facts.get("form") != STEPS_FORM:
        return {}
    found = {when: section.facts.get(when) for when in WHEN}
    for steps in found.values():
        if not isinstance(steps, list) or not all(isinstance(s, dict) and type(s.get("step")) is str for s in steps):
            raise PackageError(f"{package.label} is damaged: its steps are not described; compile it again")
    return {when: list(steps) for when, steps in found.items() if isinstance(steps, list)}
