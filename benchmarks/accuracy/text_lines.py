"""PP-OCRv4 recognition on lines of text drawn in several fonts and sizes, with noise and blur."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from benchmarks.accuracy.task import Array, Run, Task
from mace_core.testing.models import PP_OCR_REC, find_packaged_model

TEXT = """the quick brown fox jumps over a lazy dog while seven wizards mix dark potions in old glass jars and judge
every phrase by its weight number total price invoice date street city 2024 1999 37 5.20 64% Mr. Smith paid Frankfurt
Beijing Lagos Quebec signal device memory kernel tensor window yellow jacket Xylophone Zebra"""

TESTED, CALIBRATED = 500, 128
HEIGHT = 48


class TextLines(Task):
    """Character accuracy: 100 less the edit distance in percent of the characters.

    Spaces at the ends of a reading are left out, as they are of every text that is used: the model reads the margin of
    a picture as a space, and whether it does hangs by a hair.
    """

    name: ClassVar[str] = "ppocr_rec"
    metric: ClassVar[str] = "characters right, %"
    allowed: ClassVar[float] = 0.5
    settings: ClassVar[Mapping[str, Any]] = MappingProxyType({"algorithm": "mse", "corrects_bias": True})

    def model(self) -> Path:
        return find_packaged_model(*PP_OCR_REC)

    def calibration(self) -> Iterator[dict[str, Array]]:
        for number in range(CALIBRATED):
            yield {"x": line(100_000 + number)[0]}

    def score(self, run: Run, reference: Run) -> dict[str, float]:
        wrong = total = same = 0
        for number in range(TESTED):
            picture, text = line(number)
            read = decode(next(iter(run({"x": picture}).values()))).strip()
            wrong += edit_distance(read, text)
            total += len(text)
            same += read == text
        return {self.metric: 100.0 * (1 - wrong / total), "lines right, %": 100.0 * same / TESTED}


@functools.cache
def fonts() -> list[str]:
    """Files of fonts on this machine that have Latin letters; the one that Pillow brings is used beside them."""
    folders = (Path("/usr/share/fonts"), Path("/usr/local/share/fonts"))
    found = sorted(str(file) for folder in folders for file in folder.rglob("DejaVu*.ttf") if "Math" not in file.name)
    return found[:12]


def line(seed: int) -> tuple[Array, str]:
    """A picture of a line, (1, 3, 48, width) from -1 to 1, and its text."""
    random = np.random.default_rng(seed)
    text = " ".join(random.choice(TEXT.split(), int(random.integers(2, 5))))
    size = int(random.integers(18, 40))
    number = int(random.integers(0, len(fonts()) + 1))
    font = ImageFont.load_default(size) if number == len(fonts()) else ImageFont.truetype(fonts()[number], size)
    left, top, right, bottom = font.getbbox(text)
    margin = int(random.integers(3, 9))
    paper, ink = random.integers(170, 256, 3), random.integers(0, 90, 3)
    page = Image.new("RGB", (int(right - left) + 2 * margin, int(bottom - top) + 2 * margin), tuple(map(int, paper)))
    ImageDraw.Draw(page).text((margin - left, margin - top), text, fill=tuple(map(int, ink)), font=font)
    if random.random() < 0.5:
        page = page.filter(ImageFilter.GaussianBlur(float(random.uniform(0.3, 1.2))))
    page = page.resize(
        (max(HEIGHT, round(page.width * HEIGHT / page.height / 32) * 32), HEIGHT), Image.Resampling.BILINEAR
    )
    pixels = np.asarray(page, np.float32) + random.normal(0, random.uniform(0, 18), (HEIGHT, page.width, 3))
    return ((np.clip(pixels, 0, 255) / 127.5 - 1).transpose(2, 0, 1)[None]).astype(np.float32), text


@functools.cache
def characters() -> list[str]:
    """The classes after the blank."""
    import onnx

    model = onnx.load(find_packaged_model(*PP_OCR_REC))
    listed = next(entry.value for entry in model.metadata_props if entry.key == "character")
    return [*listed.splitlines(), " "]


def decode(scores: Array) -> str:
    """Of (1, steps, classes): the likeliest class of each step, repetitions and blanks left out."""
    best = scores[0].argmax(axis=-1)
    kept = [int(c) for at, c in enumerate(best) if c and (at == 0 or c != best[at - 1])]
    return "".join(characters()[c - 1] for c in kept if c - 1 < len(characters()))


def edit_distance(one: str, other: str) -> int:
    """Levenshtein's."""
    row = list(range(len(other) + 1))
    for at, letter in enumerate(one, 1):
        previous, row[0] = row[0], at
        for place, letter2 in enumerate(other, 1):
            previous, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, previous + (letter != letter2))
    return row[-1]
