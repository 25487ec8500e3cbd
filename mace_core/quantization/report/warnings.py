"""What a reader of a report must not miss."""

from __future__ import annotations

from collections import Counter

from mace_core.errors import shorten
from mace_core.quantization.report.findings import Report

THIN = 100
"""Samples below which ranges are a matter of luck."""

ADVISED = 1000
"""Samples that the field advises."""

CLIPS = 1e-4
"""Share of a value's numbers; the percentile that is usual clips a tenth of that on purpose."""

POOR_DB = 10.0
"""SQNR below which a result is more than a third noise in amplitude."""

_NAMED = 3


def warnings(report: Report) -> list[str]:
    """Sentences, the gravest first; empty where there is nothing to say."""
    found = []
    if report.metric is not None and report.metric.allowed_drop is not None:
        metric = report.metric
        if metric.drop > report.metric.allowed_drop:
            found.append(
                f"{metric.name} drops by {metric.drop:.4g}, and {metric.allowed_drop:.4g} was allowed: exclude the "
                "most sensitive layers, or calibrate with more data."
            )
    if report.is_calibrated and report.samples < THIN:
        found.append(
            f"Calibration data is thin: {report.samples} sample{'s' if report.samples != 1 else ''}. Below {THIN} the "
            f"ranges are a matter of luck; {ADVISED:,} are advised."
        )
    found += _clips(report)
    found += _poor(report)
    found += _floats(report)
    found += report.notes
    return found


def _clips(report: Report) -> list[str]:
    clipped = sorted((value for value in report.values if value.clipped > CLIPS), key=lambda value: -value.clipped)
    if not clipped:
        return []
    named = "; ".join(
        f"'{shorten(value.name, 60)}' {value.clipped:.2%} beyond {value.low:.4g} to {value.high:.4g} "
        f"(seen: {value.seen_low:.4g} to {value.seen_high:.4g})"
        for value in clipped[:_NAMED]
    )
    more = f"; and {len(clipped) - _NAMED} more" if len(clipped) > _NAMED else ""
    verb = "value clips" if len(clipped) == 1 else "values clip"
    return [f"{len(clipped)} {verb} numbers that calibration brought: {named}{more}."]


def _poor(report: Report) -> list[str]:
    poor = [layer for layer in report.most_sensitive if (layer.sensitivity_db or 0.0) < POOR_DB]
    if not poor:
        return []
    named = ", ".join(f"'{shorten(layer.name, 60)}' ({layer.sensitivity_db:.1f} dB)" for layer in poor[:_NAMED])
    more = f" and {len(poor) - _NAMED} more" if len(poor) > _NAMED else ""
    verb = "layer has" if len(poor) == 1 else "layers have"
    return [f"{len(poor)} {verb} an SQNR below {POOR_DB:.0f} dB: {named}{more}. Keeping them in float may pay."]


def _floats(report: Report) -> list[str]:
    """Nodes in float by reason; all of them are in the table of layers."""
    reasons: dict[str, Counter[str]] = {}
    for layer in report.layers:
        if layer.is_float and layer.reason:
            reasons.setdefault(layer.reason, Counter())[layer.op_type] += 1
    total = sum(sum(counts.values()) for counts in reasons.values())
    if not total:
        return []
    parts = []
    for reason, counts in sorted(reasons.items(), key=lambda item: -sum(item[1].values())):
        parts.append(f"{', '.join(f'{count} {op_type}' for op_type, count in counts.most_common())}: {reason}")
    return [f"{total} node{'s stay' if total != 1 else ' stays'} in float. {'; '.join(parts)}."]
