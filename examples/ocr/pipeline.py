"""Text detection and recognition with the PP-OCRv4 mobile models: everything around the three networks.

Detection is DB (Liao et al., "Real-time Scene Text Detection with Differentiable Binarization", AAAI 2020): the
network gives a text probability per pixel, connected regions become rotated boxes.  Recognition is CTC (Graves et al.,
ICML 2006) over a strip of text 48 pixels high.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

import mace_core as mace

Image = npt.NDArray[np.uint8]  # (H, W, 3), BGR
Floats = npt.NDArray[np.float32]

LONGEST_SIDE = 960
"""Pictures are scaled so that their longer side is at most this many pixels, as the detector was trained."""

TEXT_THRESHOLD = 0.3
BOX_THRESHOLD = 0.6
UNCLIP_RATIO = 1.6
SMALLEST_SIDE = 3.0
"""Detector post-processing, as published with the model: probability of a text pixel, mean probability of a box, how
far boxes are grown (the network is trained on shrunk text), and the shorter side in pixels of the smallest box."""

TEXT_HEIGHT = 48
WIDTH_STEP = 64
"""Strips are padded to a multiple of this width, so that lines of similar length share one plan."""

WORD_GAP = 0.25
"""A gap without ink parts two words from this share of the height of the ink on."""

UPRIGHT_CONFIDENCE = 0.9


@dataclass(frozen=True)
class Line:
    """One line of text: corners (4, 2) clockwise from the top left in pixels, its text and the mean confidence."""

    box: Floats
    text: str
    confidence: float


@dataclass
class Timings:
    """Seconds spent per stage, in the order the stages first ran."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


class TextReader:
    """Reads the lines of a picture with three sessions: detector, orientation classifier, recognizer."""

    def __init__(self, detector: mace.Session, classifier: mace.Session, recognizer: mace.Session) -> None:
        self.detector = detector
        self.classifier = classifier
        self.recognizer = recognizer
        # CTC class 0 is the blank; the last one is the space.
        self.characters = ["", *recognizer.metadata["character"].splitlines(), " "]
        self.timings = Timings()

    def read(self, image: Image) -> list[Line]:
        """All lines of ``image``, from top to bottom and left to right."""
        boxes = self.find_boxes(image)
        lines = []
        for box in boxes:
            with self.timings.stage("crop"):
                strip = crop(image, box)
            strip = self.upright(strip)
            text, confidence = self.recognize(strip)
            if text.strip():
                lines.append(Line(box, text, confidence))
        return lines

    def find_boxes(self, image: Image) -> list[Floats]:
        """Rotated boxes around the lines of text."""
        with self.timings.stage("detect: prepare"):
            scale = min(1.0, LONGEST_SIDE / max(image.shape[:2]))
            height, width = (max(32, round(side * scale / 32) * 32) for side in image.shape[:2])
            resized = cv2.resize(image, (width, height)).astype(np.float32) / 255
            mean, std = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
            feed = np.ascontiguousarray(((resized - mean) / std).transpose(2, 0, 1)[None])
        with self.timings.stage("detect: network"):
            probability = run_single(self.detector, feed)[0, 0]
        with self.timings.stage("detect: boxes"):
            factors = np.array([image.shape[1] / width, image.shape[0] / height], np.float32)
            return reading_order([box * factors for box in boxes_from_probability(probability)])

    def upright(self, strip: Image) -> Image:
        """Turn a strip that stands on its head."""
        with self.timings.stage("orientation"):
            ratio = strip.shape[1] / strip.shape[0]
            width = min(192, math.ceil(TEXT_HEIGHT * ratio))
            feed = np.zeros((1, 3, TEXT_HEIGHT, 192), np.float32)
            feed[0, :, :, :width] = to_strip(strip, width)
            upside_down = run_single(self.classifier, feed)[0, 1]
        return cv2.rotate(strip, cv2.ROTATE_180) if upside_down > UPRIGHT_CONFIDENCE else strip

    def recognize(self, strip: Image) -> tuple[str, float]:
        """The text of a strip and the mean probability of its characters."""
        with self.timings.stage("recognize: prepare"):
            width = max(1, math.ceil(TEXT_HEIGHT * strip.shape[1] / strip.shape[0]))
            padded = max(320, -(-width // WIDTH_STEP) * WIDTH_STEP)
            feed = np.zeros((1, 3, TEXT_HEIGHT, padded), np.float32)
            feed[0, :, :, :width] = to_strip(strip, width)
        with self.timings.stage("recognize: network"):
            probabilities = run_single(self.recognizer, feed)[0]
        with self.timings.stage("recognize: decode"):
            gaps = word_gaps(strip) * (width / strip.shape[1]) * (probabilities.shape[0] / padded)
            return self.decode(probabilities, gaps)

    def decode(self, probabilities: Floats, gaps: Floats) -> tuple[str, float]:
        """Greedy CTC: the best class per step (steps, classes), repeats and blanks dropped.

        ``gaps`` are the places between words, in steps: the models, trained on Chinese, drop most spaces between
        Latin words, so a space is put where the picture shows one.
        """
        best = probabilities.argmax(axis=1)
        kept = np.flatnonzero((best != 0) & np.concatenate([[True], best[1:] != best[:-1]]))
        text = ""
        previous = -1
        for step in kept:
            character = self.characters[best[step]]
            crossed = bool(np.any((gaps > previous) & (gaps < step)))
            if text and crossed and " " not in (text[-1], character):
                text += " "
            text += character
            previous = step
        confidence = float(probabilities.max(axis=1)[kept].mean()) if kept.size else 0.0
        return text, confidence


def word_gaps(strip: Image) -> Floats:
    """Middles, in pixels, of the columns without ink that are wide enough to part two words."""
    gray = cv2.cvtColor(strip, cv2.COLOR_BGR2GRAY)
    _, dark = cv2.threshold(gray, 0, 1, cv2.THRESH_BINARY_INV + cv2.THRESH_OTSU)
    ink = dark if dark.mean() < 0.5 else 1 - dark
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    if columns.size == 0:
        return np.empty(0, np.float32)
    wide = WORD_GAP * (rows[-1] - rows[0] + 1)
    ends, starts = columns[:-1], columns[1:]
    apart = (starts - ends - 1) >= wide
    return ((ends[apart] + starts[apart]) / 2).astype(np.float32)


def run_single(session: mace.Session, feed: Floats) -> Floats:
    """Run a network with one input and one output."""
    outputs = session.run({session.inputs[0].name: feed})
    return outputs[session.outputs[0].name]


def to_strip(strip: Image, width: int) -> Floats:
    """Scale to (3, TEXT_HEIGHT, width) in [-1, 1]."""
    resized = cv2.resize(strip, (width, TEXT_HEIGHT)).astype(np.float32)
    return (resized / 127.5 - 1).transpose(2, 0, 1)


def boxes_from_probability(probability: Floats) -> list[Floats]:
    """Rotated boxes (4, 2) of the connected regions of likely text pixels in ``probability`` (H, W)."""
    mask = (probability > TEXT_THRESHOLD).astype(np.uint8)
    contours, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    boxes = []
    for contour in contours:
        center, size, angle = cv2.minAreaRect(contour)
        if min(size) < SMALLEST_SIDE:
            continue
        box = cv2.boxPoints((center, size, angle))
        if mean_inside(probability, box) < BOX_THRESHOLD:
            continue
        # The published method offsets the polygon by area * ratio / perimeter; of a rectangle that is a larger one.
        offset = size[0] * size[1] * UNCLIP_RATIO / (2 * (size[0] + size[1]))
        grown = (size[0] + 2 * offset, size[1] + 2 * offset)
        boxes.append(clockwise(cv2.boxPoints((center, grown, angle))))
    return boxes


def mean_inside(probability: Floats, box: Floats) -> float:
    """Mean of ``probability`` within a polygon."""
    low = np.clip(np.floor(box.min(axis=0)).astype(int), 0, None)
    high = np.ceil(box.max(axis=0)).astype(int) + 1
    window = probability[low[1] : high[1], low[0] : high[0]]
    inside = np.zeros(window.shape, np.uint8)
    cv2.fillPoly(inside, [np.round(box - low).astype(np.int32)], 1)
    return float(cv2.mean(window, inside)[0])


def clockwise(box: Floats) -> Floats:
    """Corners from the top left on, clockwise."""
    by_x = box[np.argsort(box[:, 0], kind="stable")]
    left, right = by_x[:2], by_x[2:]
    top_left, bottom_left = left[np.argsort(left[:, 1])]
    top_right, bottom_right = right[np.argsort(right[:, 1])]
    return np.stack([top_left, top_right, bottom_right, bottom_left]).astype(np.float32)


def reading_order(boxes: list[Floats]) -> list[Floats]:
    """Top to bottom; boxes whose middles lie within half a line height of each other are one row, left to right."""
    rows: list[list[Floats]] = []
    for box in sorted(boxes, key=lambda corners: float(corners[:, 1].mean())):
        height = float(np.linalg.norm(box[3] - box[0]))
        if rows and abs(float(box[:, 1].mean()) - float(rows[-1][0][:, 1].mean())) < height / 2:
            rows[-1].append(box)
        else:
            rows.append([box])
    return [box for row in rows for box in sorted(row, key=lambda corners: float(corners[0, 0]))]


def crop(image: Image, box: Floats) -> Image:
    """The upright strip under a rotated box; tall strips (vertical text) are laid on their side."""
    width = max(1, round(float(max(np.linalg.norm(box[0] - box[1]), np.linalg.norm(box[3] - box[2])))))
    height = max(1, round(float(max(np.linalg.norm(box[0] - box[3]), np.linalg.norm(box[1] - box[2])))))
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    matrix = cv2.getPerspectiveTransform(box.astype(np.float32), corners)
    strip = cv2.warpPerspective(image, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE, flags=cv2.INTER_CUBIC)
    return cv2.rotate(strip, cv2.ROTATE_90_COUNTERCLOCKWISE) if height >= 1.5 * width else strip
