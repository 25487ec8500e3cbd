"""Ends a text recognizer with a custom operator, so that the model itself answers with text.

python examples/custom_op/read_line.py [picture of one line of text]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import ctc_op  # noqa: F401 - registers the operator
import cv2
import numpy as np
import onnx

import mace_core as mace
from mace_core.testing.models import PP_OCR_REC, find_packaged_model

PAGE = Path(__file__).parents[1] / "ocr" / "page.png"


def model_that_writes() -> onnx.ModelProto:
    """The PP-OCRv4 recognizer followed by `com.example.CtcDecode`."""
    model = onnx.load(find_packaged_model(*PP_OCR_REC))
    characters = next(entry.value for entry in model.metadata_props if entry.key == "character").splitlines()
    (probabilities,) = model.graph.output
    decode = onnx.helper.make_node(
        "CtcDecode", [probabilities.name], ["text"], domain="com.example", alphabet="".join([*characters, " "])
    )
    model.graph.node.append(decode)
    model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("text", onnx.TensorProto.STRING, ["lines"]))
    model.opset_import.append(onnx.helper.make_opsetid("com.example", 1))
    return model


def strip(picture: Any) -> Any:
    """(H, W, 3) BGR of any size -> (1, 3, 48, width), scaled to [-1, 1] as the recognizer was trained."""
    scaled = cv2.resize(picture, (round(picture.shape[1] * 48 / picture.shape[0]), 48))
    return (scaled.astype(np.float32).transpose(2, 0, 1)[None] - 127.5) / 127.5


def main() -> None:
    path = sys.argv[1] if len(sys.argv) > 1 else str(PAGE)
    picture = cv2.imread(path)
    if picture is None:
        raise SystemExit(f"'{path}' cannot be read as a picture")
    if len(sys.argv) == 1:
        picture = picture[30:78, 40:402]  # the first line of the sample page
    with mace.Session(model_that_writes()) as session:
        (name,) = (spec.name for spec in session.inputs)
        (text,) = session.run({name: strip(picture)})["text"]
        sys.stdout.write(f"read: {text}\nran on: {session.explain().nodes_per_device}\n")


if __name__ == "__main__":
    main()
