"""The picture that shows what was read: the page with boxes on the left, the text in place on the right."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from pipeline import Line

BOX_COLOR = (220, 40, 40)
TEXT_COLOR = (20, 60, 160)


def draw(page: np.ndarray, lines: Sequence[Line], target: Path) -> None:
    """Write a PNG: ``page`` (H, W, 3) BGR with a box around each line, and beside it each text where it stands."""
    picture = Image.fromarray(np.ascontiguousarray(page[:, :, ::-1]))
    both = Image.new("RGB", (picture.width * 2, picture.height), "white")
    both.paste(picture, (0, 0))
    pen = ImageDraw.Draw(both)
    for line in lines:
        corners = [(float(x), float(y)) for x, y in line.box]
        pen.line([*corners, corners[0]], fill=BOX_COLOR, width=2)
        shifted = [(x + picture.width, y) for x, y in corners]
        pen.line([*shifted, shifted[0]], fill=(225, 225, 225), width=1)
        size = max(10, round(0.7 * float(np.linalg.norm(line.box[3] - line.box[0]))))
        pen.text(shifted[0], line.text, fill=TEXT_COLOR, font=ImageFont.load_default(size))
    both.save(target)
