"""Boxes of text from the probabilities that PP-OCR's detector gives, and how far two sets of boxes agree."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_PACKAGE = "rapidocr-onnxruntime"
_MODULE = "rapidocr_onnxruntime/ch_ppocr_det/utils.py"
_SETTINGS = {"thresh": 0.3, "box_thresh": 0.5, "unclip_ratio": 1.6, "score_mode": "fast", "use_dilation": True}
"""Of that package's config.yaml."""


@functools.cache
def _post_process() -> Any:
    """rapidocr's DBPostProcess, from its file: importing the package would bring all it depends on.

    Raises:
        ImportError: if rapidocr-onnxruntime, pyclipper, shapely or OpenCV is not installed.
    """
    try:
        path = importlib.metadata.distribution(_PACKAGE).locate_file(_MODULE)
    except importlib.metadata.PackageNotFoundError as error:
        raise ImportError(f"{_PACKAGE} is not installed: pip install --no-deps {_PACKAGE}") from error
    spec = importlib.util.spec_from_file_location("rapidocr_det_utils", str(path))
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.DBPostProcess(**_SETTINGS)


def find_boxes(probabilities: Array) -> Array:
    """Corners (boxes, 4, 2) in pixels of what ``probabilities`` (1, 1, height, width) show, found by rapidocr.

    Raises:
        ImportError: if rapidocr or what it needs is not installed.
    """
    boxes, _ = _post_process()(probabilities, probabilities.shape[2:])
    return np.asarray(boxes).reshape(-1, 4, 2)


def overlap(one: Array, other: Array) -> float:
    """Intersection over union of two convex boxes (4, 2)."""
    import cv2

    shared, _ = cv2.intersectConvexConvex(one.astype(np.float32), other.astype(np.float32))
    areas = [float(cv2.contourArea(box.astype(np.float32))) for box in (one, other)]
    return shared / (sum(areas) - shared) if sum(areas) > shared else 0.0


def least_overlap(found: Sequence[Array] | Array, expected: Sequence[Array] | Array) -> float:
    """The smallest overlap of a box with its partner, each box having one; 0 where one has none, 1 for no boxes.

    Boxes choose in the order of their overlaps, the largest first.
    """
    if len(found) != len(expected):
        return 0.0
    pairs = sorted(((overlap(a, b), i, j) for i, a in enumerate(found) for j, b in enumerate(expected)), reverse=True)
    left, right, least = set(range(len(found))), set(range(len(expected))), 1.0
    for share, i, j in pairs:
        if i in left and j in right:
            left.remove(i)
            right.remove(j)
            least = min(least, share)
    return least
