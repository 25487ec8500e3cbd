"""Pictures as inputs: every kind of pixel, upright, and every fault in a sentence."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mace_core.cli.verbosity import note
from mace_core.errors import InputError, UsageError
from mace_core.inputs.pictures import PictureOptions, load_picture
from mace_core.tensor import DType, TensorSpec

GRAY16 = np.array([[0, 257, 32768], [40000, 65534, 65535]], np.uint16)


def spec(*shape: int, dtype: DType = DType.FLOAT32) -> TensorSpec:
    return TensorSpec("x", dtype, shape)


def load(path: Path, wanted: TensorSpec, **options: Any) -> np.ndarray:
    return load_picture(path, wanted, wanted.shape, PictureOptions(**options), note)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_gray_of_16_bits_keeps_all_of_them(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"gray{suffix}"
    Image.fromarray(GRAY16).save(path)
    found = load(path, spec(1, 1, 2, 3))
    np.testing.assert_allclose(found[0, 0], GRAY16 / 65535, atol=1e-6)
    found = load(path, spec(1, 3, 2, 3), scale=(1.0,))
    np.testing.assert_allclose(found[0], np.broadcast_to(GRAY16 / 257, (3, 2, 3)), rtol=1e-6)
    found = load(path, spec(1, 1, 2, 3, dtype=DType.UINT8))
    np.testing.assert_array_equal(found[0, 0], np.rint(GRAY16 / 257).astype(np.uint8))
    assert load(path, spec(1, 4, 2, 3))[0, 3].min() == 1  # not transparent
    assert load(path, spec(1, 1, 4, 6)).max() <= 1  # resized


def test_gray_of_16_bits_in_the_other_byte_order(tmp_path: Path) -> None:
    Image.frombytes("I;16B", (3, 2), GRAY16.astype(">u2").tobytes()).save(tmp_path / "gray.tif")
    np.testing.assert_allclose(load(tmp_path / "gray.tif", spec(1, 1, 2, 3))[0, 0], GRAY16 / 65535, atol=1e-6)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_put_upright(tmp_path: Path, orientation: int) -> None:
    upright = np.zeros((16, 24, 3), np.uint8)
    upright[:8, :12] = 255  # white in the upper left
    undo = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.transpose(1, 0, 2), 6: np.rot90(upright, 1), 7: np.rot90(upright.transpose(1, 0, 2), 2),
        8: np.rot90(upright, -1),
    }  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(undo[orientation])).save(tmp_path / "p.png", exif=exif)
    found = load(tmp_path / "p.png", spec(1, 3, 16, 24))
    np.testing.assert_array_equal(found[0].transpose(1, 2, 0), upright / np.float32(255))


def test_palettes_gray_cmyk_and_bits(tmp_path: Path) -> None:
    red = Image.new("RGB", (4, 2), (255, 0, 0))
    for name, picture in {
        "p.png": red.convert("P"), "c.jpg": red.convert("CMYK"), "a.png": red.convert("RGBA"), "b.bmp": red,
    }.items():  # fmt: skip
        picture.save(tmp_path / name)
        np.testing.assert_allclose(load(tmp_path / name, spec(1, 3, 2, 4))[0, :, 0, 0], [1, 0, 0], atol=0.02)
    for mode in ("1", "L", "LA"):
        Image.new("L", (4, 2), 255).convert(mode).save(tmp_path / "g.png")
        assert load(tmp_path / "g.png", spec(1, 3, 2, 4)).min() == 1
        assert load(tmp_path / "g.png", spec(1, 1, 2, 4)).min() == 1


def test_the_first_frame_is_taken_and_transparency_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames = [Image.new("RGB", (4, 2), color) for color in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    np.testing.assert_allclose(load(tmp_path / "a.gif", spec(1, 3, 2, 4))[0, :, 0, 0], [1, 0, 0], atol=0.02)
    assert "has 3 frames; the first one is taken" in capsys.readouterr().err
    Image.new("RGBA", (4, 2), (10, 20, 30, 0)).save(tmp_path / "t.png")
    load(tmp_path / "t.png", spec(1, 3, 2, 4))
    assert "is transparent in places" in capsys.readouterr().err
    load(tmp_path / "t.png", spec(1, 4, 2, 4))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("mode", ["I", "F"])
def test_numbers_of_32_bits_are_refused(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (4, 2)).save(tmp_path / "n.tif")
    with pytest.raises(InputError, match="does not say which of them is white"):
        load(tmp_path / "n.tif", spec(1, 1, 2, 4))


def test_damaged_and_foreign_files(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(stream, "PNG")
    contents = {
        "cut off": stream.getvalue()[:2000],
        "not a picture": b"hello",
        "Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\n",
        "web page": b"<!doctype html><html>",
    }
    for words, content in contents.items():
        (tmp_path / "p.png").write_bytes(content)
        with pytest.raises(InputError, match=words):
            load(tmp_path / "p.png", spec(1, 3, 8, 8))


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("1", (300, 300)).save(tmp_path / "p.png")
    for limit in (50_000, 20_000):  # Pillow warns above the limit and refuses above twice that
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(InputError, match=f"more than {limit} pixels"):
            load(tmp_path / "p.png", spec(1, 3, 8, 8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)
    with pytest.raises(UsageError, match="would be resized to 900x900"):
        load_picture(tmp_path / "p.png", TensorSpec("x", DType.FLOAT32, None), None, PictureOptions(size=(900, 900)))
