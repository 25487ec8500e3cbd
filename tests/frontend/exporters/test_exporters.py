"""Models of training frameworks without the framework: what is asked for, what is refused, what is told."""

from __future__ import annotations

import importlib.util
import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest

from mace_core import Session
from mace_core.errors import ModelError, UsageError
from mace_core.frontend import load_model, trusted_files
from mace_core.frontend.exporters.base import require
from mace_core.frontend.exporters.child import reason
from mace_core.frontend.exporters.keras_model import KerasFrontend
from mace_core.frontend.exporters.torch_program import TorchFrontend


def archive(*names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for name in names:
            file.writestr(name, b"{}")
    return stream.getvalue()


NEW, OLD = archive("net/archive_format", "net/models/model.json"), archive("serialized_exported_program.json")
KERAS = archive("metadata.json", "config.json", "model.weights.h5")


def test_programs_and_keras_models_are_known_by_what_is_in_them(tmp_path: Path) -> None:
    for content, expected in ((NEW, "torch"), (OLD, "torch"), (KERAS, "keras"), (archive("a.txt"), "")):
        path = tmp_path / "m"
        path.write_bytes(content)
        for source in (content, path):
            found = [each.name for each in (TorchFrontend(), KerasFrontend()) if each.can_read(source)]
            assert found == [expected] * bool(expected)


def test_a_damaged_archive_is_not_recognized() -> None:
    assert not TorchFrontend().can_read(NEW[: len(NEW) // 2])
    assert not KerasFrontend().can_read(b"PK\x03\x04" + bytes(50))


@pytest.mark.parametrize(
    ("name", "content", "module", "extra"),
    [
        ("m.pt2", NEW, "torch", "torch"),
        ("m.keras", KERAS, "keras", "tensorflow"),
        ("m.h5", b"\x89HDF\r\n\x1a\n", "keras", "tensorflow"),
    ],
)
def test_a_framework_that_is_missing_is_named_with_what_to_install(
    tmp_path: Path, name: str, content: bytes, module: str, extra: str
) -> None:
    if importlib.util.find_spec(module) is not None:
        pytest.skip(f"{module} is installed here")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=rf"needs {module}.*pip install 'mace-core\[{extra}\]'"):
        load_model(tmp_path / name)


def test_the_folder_of_a_saved_model_is_its_graph(tmp_path: Path) -> None:
    if importlib.util.find_spec("tensorflow") is not None:
        pytest.skip("tensorflow is installed here")
    (tmp_path / "saved_model.pb").write_bytes(b"\x08\x01")
    with pytest.raises(ModelError, match=r"saved_model\.pb' is a TensorFlow SavedModel: reading it needs tensorflow"):
        load_model(tmp_path)


class _Boom:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("ran"),))


def test_a_pickle_is_refused_and_its_code_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("m.pkl", "m.joblib"):
        Path(name).write_bytes(pickle.dumps(_Boom()))
        with pytest.raises(ModelError, match="reading it runs the code that it holds; if you trust"):
            Session(name)
    assert not Path("ran").exists()


def test_trust_ends_with_its_block(tmp_path: Path) -> None:
    path = tmp_path / "m.pkl"
    path.write_bytes(pickle.dumps(1))
    with trusted_files(), pytest.raises(ModelError) as inside:
        load_model(path)
    assert "if you trust" not in str(inside.value)
    with pytest.raises(ModelError, match="if you trust"):
        load_model(path)


def test_an_object_of_no_framework_and_options_without_one_are_refused() -> None:
    with pytest.raises(UsageError, match=r"a model is a path, bytes, .*not builtins\.dict"):
        load_model({})
    with pytest.raises(UsageError, match="for objects of training frameworks"):
        load_model("m.onnx", example_inputs=1)


def test_what_is_there_is_not_asked_for() -> None:
    require(("json",), "torch", "x")
    with pytest.raises(ModelError, match="needs no_such_module_a and no_such_module_b"):
        require(("json", "no_such_module_a", "no_such_module_b"), "torch", "x")


def test_the_innermost_cause_is_what_is_told() -> None:
    try:
        try:
            raise KeyError("aten.strange")
        except KeyError as error:
            raise RuntimeError("export failed\n" * 40) from error
    except RuntimeError as error:
        assert reason(error) == "KeyError: 'aten.strange'"
    assert len(reason(ValueError("x" * 5000))) < 500
