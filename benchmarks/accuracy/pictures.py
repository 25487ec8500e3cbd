"""`python -m benchmarks.accuracy.pictures OUT.png`: a scale for each channel or for the layer, side by side."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmarks.accuracy.cli import open_engine
from benchmarks.accuracy.photo_files import judged_photos
from benchmarks.accuracy.super_resolution import SCALE, SIZE, SuperResolution, pair, psnr
from benchmarks.accuracy.task import Array, cache_folder
from mace_core.quantization import Quantizer, Settings

LABEL = 34
MAGNIFIED = 8


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the picture."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy.pictures", description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--number", type=int, default=0, help="of the part of a photo")
    given = parser.parse_args(arguments)
    task = SuperResolution()
    small, _ = pair(given.number, tuple(judged_photos()))
    shown = {"float": np.clip(open_engine("mace", task.model(), 2)({"x": small})["y"], 0, 1)}
    for label, settings in (("per channel", task.settings), ("per layer", task.naive)):
        path = cache_folder() / f"super_resolution.{label.replace(' ', '_')}.onnx"
        Quantizer(task.model(), Settings(**settings)).run(path, data=task.calibration)
        shown[label] = np.clip(open_engine("mace", path, 2)({"x": small})["y"], 0, 1)
    sheet(small, shown).quantize(128, dither=Image.Dither.NONE).save(given.output, optimize=True)
    return 0


def sheet(small: Array, shown: dict[str, Array]) -> Image.Image:
    """Above the pictures, below the differences from the first, magnified."""
    size = SIZE * SCALE
    page = Image.new("RGB", (4 * size + 30, 2 * (size + LABEL)), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(15)

    def put(column: int, row: int, pixels: Array, text: str) -> None:
        x, y = column * (size + 10), row * (size + LABEL)
        bytes = np.rint(np.clip(pixels[0], 0, 1).transpose(1, 2, 0) * 255).astype(np.uint8)
        page.paste(Image.fromarray(bytes).resize((size, size), Image.Resampling.NEAREST), (x, y + LABEL))
        draw.text((x + 2, y + 8), text, "black", font)

    put(0, 0, small, "input")
    reference = next(iter(shown.values()))
    for column, (label, pixels) in enumerate(shown.items(), 1):
        closeness = "" if pixels is reference else f": {psnr(pixels, reference):.1f} dB"
        put(column, 0, pixels, f"{label}{closeness}")
        if pixels is not reference:
            put(column, 1, 0.5 + MAGNIFIED * (pixels - reference), f"difference from float x {MAGNIFIED}")
    return page


if __name__ == "__main__":
    raise SystemExit(main())
