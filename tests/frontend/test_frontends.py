"""Which frontend reads a model; third-party ones are entry points."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from onnx_models import relu_chain

from mace_core.errors import ModelError
from mace_core.frontend import load_model

FRONTEND = """
from mace_core.frontend import Frontend
from mace_core.graph import Graph

class Toy(Frontend):
    name = "toy"
    suffixes = (".toy",)

    def can_read(self, source):
        {can_read}

    def load(self, source, *, path=None, mmap=True):
        return Graph("toy")
"""


class Installer:
    """Puts distributions with a frontend on the path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, distribution: str, module: str, body: str, name: str = "toy", attribute: str = "Toy") -> None:
        (self.folder / f"{module}.py").write_text(body)
        info = self.folder / f"{distribution.replace('-', '_')}-1.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.5\n")
        (info / "entry_points.txt").write_text(f"[mace.frontends]\n{name} = {module}:{attribute}\n")


@pytest.fixture
def installer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installer]:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield Installer(folder)
    for module in set(sys.modules) - before:
        if module.startswith("toy_"):
            del sys.modules[module]


def toy(can_read: str = "return b'TOY' == (source if isinstance(source, bytes) else source.read_bytes())[:3]") -> str:
    return FRONTEND.format(can_read=can_read)


def test_a_third_party_frontend_is_found_by_suffix_and_by_content(installer: Installer, tmp_path: Path) -> None:
    installer.add("toy-frontend", "toy_one", toy())
    for name in ("m.toy", "m.bin"):
        path = tmp_path / name
        path.write_bytes(b"TOY!")
        assert load_model(path).name == "toy"
    assert load_model(b"TOY!").name == "toy"


def test_onnx_models_still_load_beside_it(installer: Installer, tmp_path: Path) -> None:
    installer.add("toy-frontend", "toy_two", toy())
    path = tmp_path / "m.bin"
    path.write_bytes(relu_chain().SerializeToString())
    assert len(load_model(path).nodes) == 2


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise RuntimeError('broken on import')", "RuntimeError: broken on import"),
        ("class Toy: pass", "TypeError: .* is not a mace_core.frontend.Frontend"),
        ("x = 1", "AttributeError"),
        (toy("raise OSError('odd')"), "'toy' failed to look at the model .OSError: odd"),
    ],
)
def test_a_broken_frontend_is_reported_and_breaks_nothing(
    installer: Installer, tmp_path: Path, body: str, reason: str
) -> None:
    installer.add("toy-frontend", f"toy_{abs(hash(body))}", body)
    path = tmp_path / "m.bin"
    path.write_bytes(relu_chain().SerializeToString())
    assert len(load_model(path).nodes) == 2
    path.write_bytes(b"something else")
    with pytest.raises(ModelError, match=f"no frontend recognizes .*frontends that failed: .*{reason}"):
        load_model(path)


def test_two_frontends_of_one_name_are_reported(installer: Installer) -> None:
    installer.add("toy-a", "toy_a", toy())
    installer.add("toy-b", "toy_b", toy())
    assert load_model(b"TOY!").name == "toy"
    with pytest.raises(ModelError, match=r"'toy' of toy-\w 1\.5 is ignored: toy-\w 1\.5 provides one of that name"):
        load_model(b"neither")


def test_loading_an_onnx_file_looks_for_no_plugins_and_imports_no_onnx_before(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(relu_chain().SerializeToString())
    script = f"""
    import sys
    import mace_core.frontend
    assert not any(m == "onnx" or m.startswith("onnx.") for m in sys.modules)
    import importlib.metadata as metadata
    metadata.entry_points = None
    assert len(mace_core.frontend.load_model({str(path)!r}).nodes) == 2
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True)
