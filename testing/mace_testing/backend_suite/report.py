"""The figures, as text, as JSON and as a page of the documentation."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mace_testing.backend_suite.judge import Conditions, Outcome, Verdict


@dataclass(frozen=True, slots=True)
class Figures:
    """Counts over some cases; excluded ones are among ``total`` and count as not passed."""

    total: int
    native: int
    fallback: int
    failed: int
    excluded: int

    @property
    def passed(self) -> int:
        """Right with fallback."""
        return self.native + self.fallback

    @property
    def native_percent(self) -> float:
        return 100.0 * self.native / max(self.total, 1)

    @property
    def passed_percent(self) -> float:
        return 100.0 * self.passed / max(self.total, 1)


def figures(verdicts: Iterable[Verdict]) -> Figures:
    """Count outcomes."""
    counts = Counter(verdict.outcome for verdict in verdicts)
    return Figures(
        sum(counts.values()),
        counts[Outcome.NATIVE],
        counts[Outcome.FALLBACK],
        counts[Outcome.FAIL],
        counts[Outcome.EXCLUDED],
    )


def parts(verdicts: Sequence[Verdict]) -> list[tuple[str, Figures]]:
    """The figures published: node cases, whole and usual, and the models of the other kinds."""
    nodes = [verdict for verdict in verdicts if verdict.kind == "node"]
    found = [
        ("all node tests", figures(nodes)),
        ("usual node tests", figures(v for v in nodes if not v.unusual)),
    ]
    for kind in dict.fromkeys(verdict.kind for verdict in verdicts if verdict.kind != "node"):
        found.append((f"{kind} models", figures(v for v in verdicts if v.kind == kind)))
    found.append(("everything", figures(verdicts)))
    found.append(("everything usual", figures(v for v in verdicts if not v.unusual)))
    return found


def summary(provider: str, verdicts: Sequence[Verdict]) -> str:
    """The figures as text, with what is wrong and what is declined."""
    lines = [f"ONNX backend suite on {provider}", f"{'':24}{'cases':>7}{'native':>16}{'with fallback':>16}"]
    for title, found in parts(verdicts):
        native = f"{found.native} ({found.native_percent:.1f} %)"
        passed = f"{found.passed} ({found.passed_percent:.1f} %)"
        lines.append(f"{title:24}{found.total:>7}{native:>16}{passed:>16}")
    failed = [verdict for verdict in verdicts if verdict.outcome is Outcome.FAIL]
    if failed:
        lines.append("\nfailed:")
        lines += [f"  {v.name}{' (WRONG ON THE PROVIDER)' if v.wrong else ''}: {v.reason}" for v in failed]
    return "\n".join(lines)


def operator_page(
    provider: str,
    device: str,
    verdicts: Sequence[Verdict],
    conditions: Conditions = Conditions(),  # noqa: B008
) -> str:
    """The documentation page: the figures, a table per operator, failures and exclusions with their reasons.

    ``provider`` is what was asked for, ``device`` what that device is.
    """
    name = provider.partition(":")[0]
    asked = [provider, *(f"--{key} {value:g}" for key in ("rtol", "atol") if (value := getattr(conditions, key)))]
    if conditions.half:
        asked.append("--half")
    lines = [
        f"# Operators on the {name} provider",
        "",
        f"Measured on {device} with the test suite of the ONNX package; regenerate with",
        f"`python -m mace_testing.backend_suite --provider {' '.join(asked)}",
        f"--markdown docs/operators/{name}.md`.",
        "",
        "- *Native*: the provider runs every node, and the result is right.",
        "- *With fallback*: the result is right when the slow reference runs what the provider declines.",
        "- *Usual*: without float8, 4-bit and 2-bit numbers, strings, sequences, optionals, ai.onnx.ml, training and",
        "  random numbers.",
        "",
        "Tolerances are those of the suite, with two exceptions: float16 may differ by two units in the last place, as",
        "bfloat16 may, and the expected values of two inverse DFT cases are wrong by 2e-7 where the exact result is 0.",
        *_wider(conditions),
        "",
        "| part | cases | native | with fallback |",
        "|---|---|---|---|",
    ]
    for title, found in parts(verdicts):
        lines.append(
            f"| {title} | {found.total} | {found.native} ({found.native_percent:.1f} %) "
            f"| {found.passed} ({found.passed_percent:.1f} %) |"
        )
    lines += ["", "## Per operator", "", "| operator | cases | native | with fallback | not native because |"]
    lines.append("|---|---|---|---|---|")
    groups: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        groups[verdict.op].append(verdict)
    for op in sorted(groups):
        found = figures(groups[op])
        lines.append(f"| {op} | {found.total} | {found.native} | {found.passed} | {_reasons(groups[op])} |")
    for title, outcome in (("Failures", Outcome.FAIL), ("Exclusions", Outcome.EXCLUDED)):
        chosen = [verdict for verdict in verdicts if verdict.outcome is outcome]
        lines += ["", f"## {title}", "", "None." if not chosen else "| case | reason |"]
        lines += ["|---|---|"] if chosen else []
        lines += [f"| {verdict.name} | {_cell(verdict.reason)} |" for verdict in chosen]
    return "\n".join(lines) + "\n"


def _wider(conditions: Conditions) -> list[str]:
    """What the page says of tolerances that are wider than the suite's."""
    if not conditions.rtol and not conditions.atol:
        return []
    allowed = f"{conditions.rtol:g} of a value and {conditions.atol:g} more"
    found = [f"The device computes in less than float32: {allowed} are allowed."]
    if conditions.half:
        found += [
            "Its inputs are rounded to float16: a case that comes out otherwise, but as the CPU provider has it for",
            "inputs so rounded, is not native; it is listed as *right for inputs rounded to float16 only*.",
        ]
    return found


def _reasons(verdicts: Sequence[Verdict]) -> str:
    """The two most frequent reasons why cases of an operator are not native."""
    short = Counter(_why(verdict.reason) for verdict in verdicts if verdict.outcome is not Outcome.NATIVE)
    return _cell("; ".join(reason for reason, _ in short.most_common(2)))


def _why(reason: str) -> str:
    """A reason without the node and device it begins with."""
    _, found, rest = reason.partition("): ")
    text = rest if found else reason
    return text.partition(": ")[2] if text.split(" ", 1)[0].endswith(":") else text


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
