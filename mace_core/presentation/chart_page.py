"""Charts and tables as one file: a picture (SVG), or a page (HTML) that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mace_core.errors import UsageError
from mace_core.presentation.charts import Chart, charts_svg
from mace_core.presentation.html import escape

if TYPE_CHECKING:
    from mace_core.presentation.table import Table

SUFFIXES = (".svg", ".html", ".htm")

_STYLE = """
:root{color-scheme:light dark;--back:#f5f6f8;--card:#fff;--line:#d9dde3;--text:#1c2128;--soft:#5b6673}
@media (prefers-color-scheme:dark){:root{--back:#11151a;--card:#1a2027;--line:#323b46;--text:#e4e8ed;--soft:#9aa6b3}}
body{margin:0;background:var(--back);color:var(--text);font:15px/1.5 system-ui,sans-serif}
main{max-width:980px;margin:0 auto;padding:1.2rem 1rem 3rem}
h1{font-size:1.4rem;margin:0 0 .3rem;overflow-wrap:anywhere}
p{margin:.3rem 0;color:var(--soft);overflow-wrap:anywhere}
section{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:.8rem 1rem;margin:1rem 0;
overflow-x:auto}
svg{display:block;width:100%;min-width:600px;height:auto}
table{font-size:.9rem}
th{border-bottom:1px solid var(--line)}
"""


def chart_page(title: str, notes: Sequence[str], charts: Sequence[Chart], tables: Sequence[Table]) -> str:
    """A page that shows the charts and below them the tables; it runs no program and fetches nothing."""
    told = "".join(f"<p>{escape(note)}</p>" for note in notes)
    shown = "".join(f"<section>{table.html()}</section>" for table in tables if table.rows)
    picture = f"<section>{charts_svg(charts, title)}</section>" if charts else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><main><h1>{escape(title)}</h1>{told}{picture}{shown}</main></body></html>\n"
    )


def write_charts(
    path: Path, title: str, notes: Sequence[str], charts: Sequence[Chart], tables: Sequence[Table]
) -> None:
    """Write a picture or a page, as the name of the file says; what was there before stays until the new one is whole.

    Raises:
        UsageError: if the file cannot be written.
    """
    from mace_core.host.files import replacing

    is_picture = path.suffix.lower() == ".svg"
    text = charts_svg(charts, title) if is_picture else chart_page(title, notes, charts, tables)
    try:
        with replacing(path) as file:
            file.write(text.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise UsageError(f"'{path}' cannot be written: {error.strerror or error}") from None
