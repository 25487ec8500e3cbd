"""The report as one page of HTML that needs nothing else: no script, no request; light or dark as the reader has it."""

from __future__ import annotations

from collections.abc import Sequence

from mace_core.presentation.html import escape
from mace_core.presentation.sizes import format_bytes
from mace_core.quantization.report.charts import histogram_chart, layer_chart, meter, size_chart
from mace_core.quantization.report.findings import LayerFinding, Report, ValueFinding
from mace_core.quantization.report.summary import cosine, decibels, size_change
from mace_core.quantization.report.warnings import CLIPS, warnings

_SENSITIVE = 10
_HISTOGRAMS = 12
"""Shown at once; all others are in a part that opens."""

_STYLE = """
:root{color-scheme:light dark;--ground:#fff;--panel:#f5f6f8;--ink:#1c1e21;--soft:#5b626b;--line:#d9dde2;
--accent:#2262b3;--muted:#98a2ae;--bad:#b3261e;--warn-ground:#fff4e0;--warn-line:#b36b00;--range:#2262b31c;--dot:#b35c00}
@media (prefers-color-scheme:dark){:root{--ground:#15181c;--panel:#1e2329;--ink:#e8eaed;--soft:#a3abb5;--line:#363d46;
--accent:#6ba6ee;--muted:#66717e;--bad:#f2867e;--warn-ground:#33270f;--warn-line:#e0a030;--range:#6ba6ee26;--dot:#f0a54a}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.5 system-ui,sans-serif}
main{max-width:1040px;margin:0 auto;padding:1.5rem 1rem 4rem}
h1{font-size:1.6rem;line-height:1.2;margin:0 0 .25rem;overflow-wrap:anywhere}
h2{font-size:1.15rem;margin:2.2rem 0 .6rem}
p{margin:.4rem 0}
.soft{color:var(--soft)}
.skip{position:absolute;left:-999rem}
.skip:focus{position:static}
a{color:var(--accent)}
nav ul{display:flex;flex-wrap:wrap;gap:.2rem 1.2rem;list-style:none;padding:0;margin:.8rem 0}
:focus-visible{outline:3px solid var(--accent);outline-offset:2px;border-radius:3px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(170px,1fr));gap:.8rem;margin:1.2rem 0;padding:0}
.tiles div{background:var(--panel);border-radius:8px;padding:.7rem .9rem}
.tiles dt{color:var(--soft);font-size:.85rem}
.tiles dd{margin:0;font-size:1.35rem;font-weight:600;overflow-wrap:anywhere}
.tiles dd small{display:block;font-size:.85rem;font-weight:400;color:var(--soft)}
.warnings{list-style:none;padding:0;margin:1rem 0}
.warnings li{background:var(--warn-ground);border-left:4px solid var(--warn-line);padding:.5rem .8rem;margin:.4rem 0;
border-radius:0 6px 6px 0;overflow-wrap:anywhere}
.scroll{overflow:auto;max-height:34rem;border:1px solid var(--line);border-radius:8px}
table{border-collapse:collapse;width:100%;font-size:.9rem}
caption{text-align:left;padding:.4rem .7rem;color:var(--soft)}
th,td{padding:.3rem .7rem;text-align:left;border-bottom:1px solid var(--line);vertical-align:top}
th{font-weight:600}
thead th{position:sticky;top:0;background:var(--panel)}
.reason{min-width:14rem}
tbody th{font-weight:400;overflow-wrap:anywhere;min-width:9rem}
.number{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
.grid-of{display:grid;grid-template-columns:repeat(auto-fill,minmax(260px,1fr));gap:.8rem}
figure{margin:0;background:var(--panel);border-radius:8px;padding:.6rem .8rem}
figcaption{font-size:.85rem;overflow-wrap:anywhere}
summary{cursor:pointer;padding:.4rem 0}
svg{display:block;width:100%;height:auto}
.wide{overflow-x:auto}.wide svg{min-width:660px}
svg.meter{display:inline-block;width:60px;margin-left:.5rem;vertical-align:middle}
svg text{font:13px system-ui,sans-serif;fill:var(--ink)}
svg .small{font-size:11px;fill:var(--soft)}
svg .warn{fill:var(--bad);font-weight:600}
.accent{fill:var(--accent)}.muted{fill:var(--muted)}.bad{fill:var(--bad)}.dot{fill:var(--dot)}
.track{fill:var(--line)}.range{fill:var(--range)}
.grid{stroke:var(--line)}.axis{stroke:var(--muted)}.clip{stroke:var(--bad);stroke-dasharray:4 3}
.key{display:inline-block;width:.8em;height:.8em;border-radius:2px;margin-right:.4em;vertical-align:-.05em}
@media print{.scroll{max-height:none;overflow:visible}}
"""


def html(report: Report) -> str:
    """The whole page."""
    title = f"Quantization of {report.model}"
    sections = [
        _section("size", "Size", f"{_wide('File sizes', size_chart(report))}<p>{escape(size_change(report))}</p>"),
        _section("layers", "Signal to noise, layer by layer", _layer_section(report)),
        _section("sensitive", "Most sensitive layers", _sensitive(report)),
        _section("ranges", "Ranges", _ranges(report)),
        _section("table", "All layers", _all_layers(report)),
        _section("settings", "Settings", _settings(report)),
    ]
    links = "".join(
        f'<li><a href="#{name}">{escape(heading)}</a></li>' for name, heading, content in sections if content
    )
    body = "".join(
        f'<section id="{name}" aria-labelledby="{name}-h"><h2 id="{name}-h">{escape(heading)}</h2>{content}</section>'
        for name, heading, content in sections
        if content
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n"
        f'<body><a class="skip" href="#content">Skip to the content</a><main id="content"><h1>{escape(title)}</h1>'
        f'<p class="soft">written to {escape(report.output)}</p>{_tiles(report)}{_warnings(report)}'
        f'<nav aria-label="Parts of this report"><ul>{links}</ul></nav>\n{body}</main></body></html>\n'
    )


def _section(name: str, heading: str, content: str) -> tuple[str, str, str]:
    return name, heading, content


def _tiles(report: Report) -> str:
    tiles = [
        ("Size", format_bytes(report.size_after), f"{format_bytes(report.size_before)} before, {size_change(report)}"),
        ("Quantized nodes", f"{len(report.quantized)} of {len(report.layers)}", ""),
    ]
    if report.is_calibrated:
        tiles.append(("Calibration", f"{report.samples} sample{'s' if report.samples != 1 else ''}", ""))
    if report.most_sensitive:
        worst = min(report.most_sensitive, key=lambda layer: layer.sensitivity_db or 0.0)
        tiles.append(("Lowest SQNR", f"{decibels(worst.sensitivity_db)} dB", worst.name))
    if report.metric is not None:
        metric = report.metric
        allowed = "" if metric.allowed_drop is None else f", a drop of {metric.allowed_drop:.4g} allowed"
        tiles.append((metric.name, f"{metric.after:.4g}", f"{metric.before:.4g} before{allowed}"))
    inner = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}{f'<small>{escape(more)}</small>' if more else ''}</dd></div>"
        for name, value, more in tiles
    )
    return f'<dl class="tiles">{inner}</dl>'


def _warnings(report: Report) -> str:
    said = warnings(report)
    if not said:
        return ""
    inner = "".join(f"<li>{escape(sentence)}</li>" for sentence in said)
    return f'<section aria-label="Warnings"><ul class="warnings">{inner}</ul></section>'


def _layer_section(report: Report) -> str:
    chart = layer_chart(report.layers)
    if not chart:
        return ""
    keys = []
    if any(layer.sqnr_db is not None for layer in report.quantized):
        keys.append('<span class="key" style="background:var(--accent)"></span>after everything before it')
        keys.append('<span class="key" style="background:var(--bad)"></span>the same, below 10 dB')
    if any(layer.alone_sqnr_db is not None for layer in report.quantized):
        dot = '<span class="key" style="background:var(--dot);border-radius:50%"></span>'
        keys.append(f"{dot}the model's results when the layer alone is quantized")
    drawn = _wide("Signal to noise of each layer", chart)
    return f'{drawn}<p class="soft">Decibels, higher is better; 60 and more are drawn as 60. {", ".join(keys)}.</p>'


def _wide(label: str, chart: str) -> str:
    """A chart whose letters would be too small on a narrow screen: it is moved sideways there, by keyboard too."""
    return f'<div class="wide" tabindex="0" role="region" aria-label="{escape(label)}">{chart}</div>'


def _sensitive(report: Report) -> str:
    layers = report.most_sensitive[:_SENSITIVE]
    return _table("The layers that lose the most, the worst first", layers, meters=True) if layers else ""


def _all_layers(report: Report) -> str:
    return _table("All nodes in the order of the graph", report.layers, meters=False) if report.layers else ""


def _table(caption: str, layers: Sequence[LayerFinding], *, meters: bool) -> str:
    """Rows for layers; the box can be scrolled by keyboard."""
    has_alone = any(layer.alone_sqnr_db is not None for layer in layers)
    rows = []
    for layer in layers:
        ratio = layer.sensitivity_db
        cells = [
            f'<th scope="row">{escape(layer.name)}</th>',
            f"<td>{escape(layer.op_type)}</td>",
            f"<td{' class=reason' if layer.reason else ''}>{escape(_form(layer))}</td>",
            f'<td class="number">{escape(decibels(layer.sqnr_db))}{meter(ratio) if meters else ""}</td>',
            f'<td class="number">{escape(decibels(layer.alone_sqnr_db))}</td>' if has_alone else "",
            f'<td class="number">{escape(cosine(layer))}</td>',
            f'<td class="number">{escape(decibels(layer.weight_sqnr_db))}</td>',
            f'<td class="number">{escape(_bytes(layer))}</td>',
        ]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    alone = ["alone dB"] if has_alone else []
    names = ["layer", "operator", "form", "SQNR dB", *alone, "cosine", "weights dB", "weights"]
    head = "".join(f'<th scope="col"{" class=number" if at > 2 else ""}>{name}</th>' for at, name in enumerate(names))
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table>'
        f"<caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _form(layer: LayerFinding) -> str:
    return f"{layer.form}: {layer.reason}" if layer.reason else layer.form


def _bytes(layer: LayerFinding) -> str:
    if not layer.float_bytes:
        return ""
    return f"{format_bytes(layer.float_bytes)} → {format_bytes(layer.stored_bytes)}"


def _ranges(report: Report) -> str:
    """Histograms: those that clip the most first, then in the order of the graph."""
    drawn = [value for value in report.values if value.counts]
    if not drawn:
        return ""
    ordered = sorted(drawn, key=lambda value: -value.clipped if value.clipped > CLIPS else 0.0)
    first, others = ordered[:_HISTOGRAMS], ordered[_HISTOGRAMS:]
    parts = [
        '<p class="soft">What calibration saw of each value, counts on a logarithmic scale; the shaded part between '
        "the dashed lines is what its integers stand for, the rest is clipped.</p>",
        f'<div class="grid-of">{"".join(map(_figure, first))}</div>',
    ]
    if others:
        parts.append(
            f"<details><summary>{len(others)} more</summary>"
            f'<div class="grid-of">{"".join(map(_figure, others))}</div></details>'
        )
    return "".join(parts)


def _figure(value: ValueFinding) -> str:
    of_node = f' <span class="soft">of {escape(value.node)}</span>' if value.node and value.node != value.name else ""
    return f"<figure>{histogram_chart(value)}<figcaption>{escape(value.name)}{of_node}</figcaption></figure>"


def _settings(report: Report) -> str:
    if not report.settings:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>'
        for name, value in report.settings.items()
    )
    return f"<table><caption>What was asked for</caption><tbody>{rows}</tbody></table>"
