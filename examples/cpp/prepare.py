"""Writes what the program needs: two models, the characters that one of them reads, and a page of text as PPM.

python examples/cpp/prepare.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import onnx
from PIL import Image

from mace_core.testing.models import PP_OCR_REC, find_packaged_model, mobilenet_v2

PAGE = Path(__file__).parents[1] / "ocr" / "page.png"


def prepare(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(mobilenet_v2(), folder / "classes.onnx")
    model = onnx.load(find_packaged_model(*PP_OCR_REC))
    onnx.save(model, folder / "text.onnx")
    (characters,) = (entry.value for entry in model.metadata_props if entry.key == "character")
    (folder / "characters.txt").write_text(characters.rstrip("\n") + "\n", encoding="utf-8")
    Image.open(PAGE).convert("RGB").save(folder / "page.ppm")


if __name__ == "__main__":
    prepare(Path(sys.argv[1]))
