"""Renders the sample page `page.png` and the text on it, `page.txt` (Pillow's built-in font: no font files needed).

python examples/ocr/make_page.py
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

HERE = Path(__file__).parent

LINES = [
    ("Execution providers", 40),
    ("A provider is a plugin: a package of its own,", 24),
    ("found through an entry point when it is installed.", 24),
    ("It claims the nodes of a graph that it can run", 24),
    ("and says of every other node why it can not.", 24),
    ("Order 66218 shipped on 2026-05-14", 24),
    ("Total: 1,284.50 EUR (incl. 19% VAT)", 28),
    ("Temperature -12.5 C, pressure 1013 hPa", 22),
]


def main() -> None:
    page = Image.new("RGB", (720, 460), (250, 249, 245))
    pen = ImageDraw.Draw(page)
    top = 28
    for text, size in LINES:
        pen.text((40, top), text, fill=(25, 25, 30), font=ImageFont.load_default(size))
        top += round(size * 1.9)
    page.quantize(16).save(HERE / "page.png", optimize=True)
    (HERE / "page.txt").write_text("".join(f"{text}\n" for text, _ in LINES), encoding="utf-8")


if __name__ == "__main__":
    main()
