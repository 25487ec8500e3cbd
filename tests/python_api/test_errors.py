"""Errors are also what Python calls them, and travel between processes."""

from __future__ import annotations

import copy
import errno
import inspect
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import mace_core as mace
from mace_core import errors
from mace_core.native.errors import KernelError
from mace_core.scheduler.planning.partition import UnplacedNodesError


def relu() -> onnx.ModelProto:
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 3]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "small", info[:1], info[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(scope="module")
def session() -> mace.Session:
    return mace.Session(relu(), cache=False)


X = np.zeros((2, 3), np.float32)


@pytest.mark.parametrize(
    ("feeds", "also"),
    [
        ({"x": X.astype(np.float64)}, TypeError),
        ({"x": None}, TypeError),
        ({"x": "text"}, TypeError),
        ([X], TypeError),
        ({"y": X}, ValueError),
        ({"x": X[:1]}, ValueError),
        ({"x": X[0]}, ValueError),
    ],
    ids=["element type", "None", "text", "a list of arrays", "name", "size", "rank"],
)
def test_a_wrong_input_is_a_type_error_or_a_value_error(session: mace.Session, feeds: Any, also: type) -> None:
    with pytest.raises(errors.InputError) as caught:
        session.run(feeds)
    assert isinstance(caught.value, also)
    assert isinstance(caught.value, TypeError) == (also is TypeError)


@pytest.mark.parametrize(
    ("arguments", "also"),
    [
        ({"devices": 3}, TypeError),
        ({"options": 3}, TypeError),
        ({"options": {"cpu": 3}}, TypeError),
        ({"pins": ["x"]}, TypeError),
        ({"devices": []}, ValueError),
        ({"devices": ["nothing"]}, LookupError),
        ({"max_signatures": 0}, ValueError),
        ({"check_numerics": "some"}, ValueError),
        ({"pins": {"nothing": "cpu"}}, ValueError),
    ],
    ids=str,
)
def test_a_wrong_argument_is_too(arguments: dict[str, Any], also: type) -> None:
    with pytest.raises(errors.UsageError) as caught:
        mace.Session(relu(), cache=False, **arguments)
    assert isinstance(caught.value, also)
    assert isinstance(caught.value, ValueError)


def test_a_model_that_is_no_model_is_a_type_error() -> None:
    with pytest.raises(TypeError):
        mace.Session(3)  # type: ignore[arg-type]


def test_bytes_that_are_no_model_are_a_value_error() -> None:
    with pytest.raises(ValueError, match="model"):
        mace.Session(b"nonsense")


def test_a_missing_model_is_a_file_not_found_error(tmp_path: Path) -> None:
    path = tmp_path / "absent.onnx"
    with pytest.raises(FileNotFoundError, match="there is no model file") as caught:
        mace.Session(path)
    assert isinstance(caught.value, errors.ModelError)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOENT, str(path))
    assert caught.value.strerror == "No such file or directory"


def test_a_folder_is_an_is_a_directory_error(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match="is a folder") as caught:
        mace.Session(tmp_path)
    assert (caught.value.errno, caught.value.filename) == (errno.EISDIR, str(tmp_path))


def test_a_file_that_may_not_be_read_is_a_permission_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret.onnx"
    path.write_bytes(relu().SerializeToString())

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)  # root may read everything
    with pytest.raises(PermissionError, match=r"can ?not be read") as caught:
        mace.Session(path, cache=False)
    assert isinstance(caught.value, errors.ModelError)
    assert (caught.value.errno, caught.value.filename) == (errno.EACCES, str(path))


def test_missing_external_data_is_a_file_not_found_error(tmp_path: Path) -> None:
    model = relu()
    weight = model.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=[300])
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="absent.bin")
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(FileNotFoundError, match="'w'") as caught:
        mace.Session(path)
    assert isinstance(caught.value, errors.ModelError)
    assert caught.value.filename == str(tmp_path / "absent.bin")


def test_exhausted_memory_is_a_memory_error_that_says_where(session: mace.Session) -> None:
    class Greedy(dict):  # type: ignore[type-arg]
        def __getitem__(self, name: str) -> object:
            raise MemoryError

    with pytest.raises(MemoryError, match="the run needs more memory") as caught:
        session.run(Greedy(x=X))
    assert isinstance(caught.value, errors.OutOfMemoryError)


ALL = [
    *(kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.MaceError)),
    KernelError,
    UnplacedNodesError,
]


def an(kind: type[errors.MaceError]) -> errors.MaceError:
    """An error of this class with something in every attribute."""
    if issubclass(kind, errors.NumericsError):
        counts = {"nan_count": 3, "infinity_count": 1, "first_index": (0, 2)}
        return kind("it is NaN", node="n", device="cpu:0", output="y", **counts)  # type: ignore[arg-type]
    if kind is errors.ModelNotFoundError or kind is errors.ModelIsFolderError:
        return kind("it is not there", "some.onnx")  # type: ignore[call-arg]
    if issubclass(kind, errors.ModelFileError):
        return kind("it cannot be read", errno.EIO, "some.onnx")
    if issubclass(kind, errors.ProviderError):
        return kind("it fails", node="n", device="cpu:0")
    if kind is UnplacedNodesError:
        return kind({})  # type: ignore[arg-type]
    return kind("it fails")


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_error_can_be_pickled_and_copied(kind: type[errors.MaceError]) -> None:
    original = an(kind)
    original.add_note("a note")
    for twin in (pickle.loads(pickle.dumps(original)), copy.copy(original), copy.deepcopy(original)):
        assert type(twin) is kind
        assert str(twin) == str(original)
        assert twin.args == original.args
        assert vars(twin) == vars(original)
        if isinstance(original, OSError):
            assert (twin.errno, twin.strerror, twin.filename) == (
                original.errno,
                original.strerror,
                original.filename,
            )


def test_an_error_of_a_vendor_with_a_constructor_of_its_own_can_be_pickled() -> None:
    twin = pickle.loads(pickle.dumps(VendorError(7)))
    assert (str(twin), twin.code) == ("the driver answers 7", 7)


class VendorError(errors.ProviderError, OSError):
    def __init__(self, code: int) -> None:
        super().__init__(f"the driver answers {code}")
        self.code = code
