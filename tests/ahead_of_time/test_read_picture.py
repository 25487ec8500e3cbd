"""examples/cpp: a C++ program reads a picture on each processor, and its networks compute what a session computes."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))
from programs import TOOLCHAINS, skip_without

import mace_core as mace
from mace_core.ahead_of_time import build_library, parse_shape

EXAMPLE = Path(__file__).parents[2] / "examples/cpp"
OCR = EXAMPLE.parent / "ocr"
SYSROOTS = {"arm64-v8a": "aarch64-linux-gnu", "armeabi-v7a": "arm-linux-gnueabihf", "riscv64": "riscv64-linux-gnu"}

EVERYWHERE = [
    "arm64-v8a",
    *(pytest.param(target, marks=pytest.mark.full) for target in ("x86-64", "armeabi-v7a", "riscv64", "host")),
]


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models and pictures: the whole page, and its first line."""
    folder = tmp_path_factory.mktemp("pictures")
    subprocess.run([sys.executable, EXAMPLE / "prepare.py", folder], check=True)
    with Image.open(folder / "page.ppm") as page:
        page.crop((0, 0, page.width, 90)).save(folder / "line.ppm")
        page.crop((0, 0, page.width, 90)).save(folder / "line.bmp")
    return folder


class Program:
    """The example, built for a target."""

    def __init__(self, prepared: Path, target: str, folder: Path, *, shared: bool = False) -> None:
        skip_without(target)
        if shutil.which("cmake") is None:
            pytest.skip("cmake is not installed")
        self.prepared, self.folder = prepared, folder
        build_library(
            {"classes": prepared / "classes.onnx", "text": prepared / "text.onnx"},
            folder / "pictures",
            target=target,
            name="pictures",
            shapes={"text": [{"x": parse_shape("1x3x48x320..1280:64")}]},
        )
        toolchain = EXAMPLE / f"toolchains/{target}.cmake"
        options = [f"-DCMAKE_TOOLCHAIN_FILE={toolchain}"] if toolchain.exists() else [f"-DMACE_TARGET={target}"]
        options += ["-DMACE_SHARED=ON"] if shared else []
        configure = ["cmake", "-S", EXAMPLE, "-B", folder / "build", f"-DMACE_MODELS={folder / 'pictures'}", *options]
        subprocess.run([*configure, "-DCMAKE_CXX_FLAGS=-Werror -O1"], check=True, stdout=subprocess.DEVNULL)
        subprocess.run(["cmake", "--build", folder / "build", "-j", "2"], check=True, stdout=subprocess.DEVNULL)
        emulator = TOOLCHAINS[target].emulator
        self.command = [
            *emulator,
            *(["-L", f"/usr/{SYSROOTS[target]}"] if emulator else []),
            folder / "build/read_picture",
        ]

    def run(self, *arguments: str | Path) -> str:
        done = subprocess.run([*self.command, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def text(self, picture: str, *options: str | Path) -> str:
        return self.run("text", self.prepared / picture, "--characters", self.prepared / "characters.txt", *options)


def assert_session_agrees(model: Path, saved: Path, count: int) -> None:
    """What a program saved of its runs is what a session computes, within 1e-4 of the range."""
    inputs = sorted(saved.glob("*_in_*"))
    assert len(inputs) == count
    with mace.Session(model, devices=["cpu"]) as session:
        for path in inputs:
            run, _, shape = path.name.partition("_in_")
            (answer,) = saved.glob(f"{run}_out_*")
            array = np.fromfile(path, np.float32).reshape([int(size) for size in shape.split("x")])
            expected = session.run({session.inputs[0].name: array})[session.outputs[0].name]
            assert answer.name.partition("_out_")[2] == "x".join(map(str, expected.shape))
            found = np.fromfile(answer, np.float32).reshape(expected.shape)
            assert np.ptp(expected) > 0
            assert np.abs(found - expected).max() <= 1e-4 * np.ptp(expected)


@pytest.mark.parametrize("target", EVERYWHERE)
def test_a_program_reads_a_picture(target: str, prepared: Path, tmp_path: Path) -> None:
    program = Program(prepared, target, tmp_path)
    assert "usage" in subprocess.run(program.command, capture_output=True, text=True, check=False).stderr
    for task in ("class", "line"):
        (tmp_path / task).mkdir()
    printed = program.run("class", prepared / "page.ppm", "--save", tmp_path / "class")
    assert_session_agrees(prepared / "classes.onnx", tmp_path / "class", 1)
    (answer,) = (tmp_path / "class").glob("*_out_*")
    assert printed.split()[1] == str(np.fromfile(answer, np.float32).argmax())
    assert program.text("line.ppm", "--save", tmp_path / "line") == "Execution providers\n"
    assert_session_agrees(prepared / "text.onnx", tmp_path / "line", 1)


@pytest.mark.full
@pytest.mark.parametrize("target", ["host", "x86-64", "arm64-v8a", "armeabi-v7a", "riscv64"])
def test_a_program_reads_a_whole_page(target: str, prepared: Path, tmp_path: Path) -> None:
    program = Program(prepared, target, tmp_path)
    (tmp_path / "page").mkdir()
    page = OCR / "page.txt"
    assert program.text("page.ppm", "--save", tmp_path / "page") == page.read_text(encoding="utf-8")
    assert_session_agrees(prepared / "text.onnx", tmp_path / "page", len(page.read_text(encoding="utf-8").splitlines()))


@pytest.mark.full
def test_with_the_shared_library_threads_and_other_files_it_reads_the_same(prepared: Path, tmp_path: Path) -> None:
    program = Program(prepared, "host", tmp_path, shared=True)
    assert program.text("line.bmp", "--threads", "2") == "Execution providers\n"
    for name, content, complaint in [
        ("short.ppm", b"P6\n100 100\n255\nabc", "too short"),
        ("huge.ppm", b"P6\n99999999999 1\n255\n", "its size is"),
        ("deep.ppm", b"P6\n1 1\n65535\n......", "not of 8 bits"),
        ("short.bmp", b"BM" + bytes(20), "too short"),
        ("other.gif", b"GIF89a", "it is no PPM, PGM"),
        ("empty", b"", "it is no PPM, PGM"),
    ]:
        (tmp_path / name).write_bytes(content)
        done = subprocess.run([*program.command, "class", tmp_path / name], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert complaint in done.stderr
    done = subprocess.run([*program.command, "class", "nothing"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "read_picture: 'nothing' cannot be read\n")
