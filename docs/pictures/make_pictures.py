"""Draws the README's pictures from real figures and real output.

python docs/pictures/make_pictures.py speed      speed.png, from the table in benchmarks/README.md (needs matplotlib)
python docs/pictures/make_pictures.py placement  placement.svg, from `mace explain` (needs the example vendor and
                                                 rapidocr-onnxruntime)
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
MEASURED = "2026-11-22"
"""When the table in benchmarks/README.md was measured."""

COLUMNS = 140


def speed() -> None:
    sys.path.insert(0, str(ROOT))
    from benchmarks.compare.chart import write_chart
    from benchmarks.compare.results import Cell, Comparison, Measurement, Row

    text = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    processor, cores, versions = re.search(r"^(.+), (\d+) cores, Linux x86_64; (.+)$", text, re.MULTILINE).groups()
    lines = re.findall(r"^\| (\w+) +\| +([\d.]+) \| +(\d+) \|(.+)$", text, re.MULTILINE)
    names = [version.split()[0] for version in versions.split(", ")]
    rows = []
    for model, gflop, threads, rest in lines:
        cells = {}
        for name, shown in zip(names, rest.split("|"), strict=False):
            figures = re.search(r"([\d.]+) \(([\d.]+)\)", shown)
            measured = [Measurement(float(figures[1]), float(figures[2]), 1, 0.0, 0, 0.0)] if figures else []
            cells[name] = Cell(measured, "" if figures else "no figures")
        rows.append(Row(model, model, float(gflop), int(threads), cells))
    machine: dict[str, object] = {"processor": f"{processor} (virtual machine), {MEASURED}", "cores": int(cores)}
    found = Comparison(machine, dict(version.rsplit(" ", 1) for version in versions.split(", ")), {}, rows=rows)
    write_chart(found, HERE / "speed.png")


def placement() -> None:
    from rich.console import Console
    from rich.text import Text

    package = importlib.util.find_spec("rapidocr_onnxruntime")
    models = Path(package.submodule_search_locations[0]) / "models"
    model = "ch_ppocr_mobile_v2.0_cls_infer.onnx"
    command = f"mace explain {model} --shape x=1x3x48x192 --device acme:sim0 --device cpu"
    mace = Path(sys.executable).with_name("mace")
    ran = subprocess.run([mace, *command.split()[1:]], cwd=models, capture_output=True, text=True, check=True)
    with Path(os.devnull).open("w") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere)
        console.print(Text(f"$ {command}", style="bold"))
        for line in ran.stdout.splitlines():
            shown = Text(line if len(line) <= COLUMNS else line[: COLUMNS - 1] + "…")
            shown.highlight_regex(r"\bacme:sim0\b", "bold yellow")
            shown.highlight_regex(r"\bcpu:0\b", "bold cyan")
            console.print(shown, no_wrap=True)
        drawn = console.export_svg(title="where each node runs, and why")
    # Nothing is fetched: the reader's own monospace font will do.
    drawn = re.sub(r"\s*@font-face \{[^}]*\}", "", drawn).replace("Fira Code, monospace", "monospace")
    (HERE / "placement.svg").write_text(drawn, encoding="utf-8")


if __name__ == "__main__":
    {"speed": speed, "placement": placement}[sys.argv[1]]()
