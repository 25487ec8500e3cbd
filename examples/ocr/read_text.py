"""Reads the text on a picture with the PP-OCRv4 mobile models.

python examples/ocr/read_text.py [PICTURE] [--device cpu] [--threads N] [--output read.png] [--expect page.txt]
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import cv2
from draw import draw
from pipeline import TextReader

import mace_core as mace
from mace_core.testing.models import find_packaged_model

HERE = Path(__file__).parent
PACKAGE = "rapidocr-onnxruntime"
MODELS = {
    "detector": "models/ch_PP-OCRv4_det_infer.onnx",
    "classifier": "models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
    "recognizer": "models/ch_PP-OCRv4_rec_infer.onnx",
}


def main() -> int:
    arguments = parse()
    image = cv2.imread(str(arguments.picture))
    if image is None:
        print(f"'{arguments.picture}' is not there or is not a picture", file=sys.stderr)  # noqa: T201
        return 1
    start = time.perf_counter()
    sessions = {role: open_session(path, arguments) for role, path in MODELS.items()}
    loading = time.perf_counter() - start
    try:
        reader = TextReader(**sessions)
        lines = reader.read(image)
        report(lines, reader.timings.seconds, loading)
        fallbacks = report_placement(sessions)
    finally:
        for session in sessions.values():
            session.close()
    draw(image, lines, arguments.output)
    say(f"\npicture with boxes and text: {arguments.output}")
    return check([line.text for line in lines], fallbacks, arguments.expect)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Read the text on a picture.")
    parser.add_argument("picture", nargs="?", type=Path, default=HERE / "page.png")
    parser.add_argument("--device", action="append", help="device to use, may be repeated (default: all real ones)")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--output", type=Path, default=Path("ocr-result.png"), help="picture to write")
    parser.add_argument("--expect", type=Path, help="file with the lines that must be read; exit 1 if any differs")
    return parser.parse_args()


def open_session(path: str, arguments: argparse.Namespace) -> mace.Session:
    options = {"cpu": {"threads": arguments.threads}} if arguments.threads else {}
    return mace.Session(find_packaged_model(PACKAGE, path), devices=arguments.device, options=options)


def report(lines: list, seconds: dict[str, float], loading: float) -> None:
    for line in lines:
        say(f"{line.confidence:6.3f}  {line.text}")
    say(f"\n{'stage':<22}{'ms':>10}")
    for stage, spent in {"load models": loading, **seconds}.items():
        say(f"{stage:<22}{spent * 1000:>10.1f}")


def report_placement(sessions: dict[str, mace.Session]) -> int:
    """Print where the nodes of each model ran; returns how many fell back to the reference provider."""
    say("\nplacement")
    total = 0
    for role, session in sessions.items():
        placement = session.explain()
        total += placement.fallback_count
        counts = ", ".join(f"{device}: {count} nodes" for device, count in placement.nodes_per_device.items())
        say(f"  {role:<12}{counts}")
    return total


def check(read: list[str], fallbacks: int, expected_file: Path | None) -> int:
    if expected_file is None:
        return 0
    expected = expected_file.read_text(encoding="utf-8").splitlines()
    right = sum(line in read for line in expected)
    say(f"{right} of {len(expected)} expected lines read right, {fallbacks} nodes fell back to the reference provider")
    return 0 if right == len(expected) and fallbacks == 0 else 1


def say(text: str) -> None:
    print(text)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
