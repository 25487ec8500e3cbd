"""The table by which providers say what they do for each operator."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mace_core.errors import UsageError
from mace_core.provider import Lowerings

TABLE = """
from mace_core.provider import Lowerings
LOWERINGS = Lowerings("acme", "acme_lowerings", ("lower",))
"""
FAMILY = """
import time
from acme_lowerings.table import LOWERINGS
time.sleep(0.05)  # a second thread has time to look into half of the table
LOWERINGS.add({"Relu": "relu", "Tanh": "tanh"})
LOWERINGS.add({"Relu": "relu of x2"}, device="x2")

@LOWERINGS.register("Hypotenuse", domain="com.acme")
def hypotenuse():
    return "called"
"""


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lowerings[object]]:
    package = tmp_path / "acme_lowerings"
    (package / "activation").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "activation" / "__init__.py").touch()
    (package / "table.py").write_text(TABLE)
    (package / "activation" / "lower.py").write_text(FAMILY)
    (package / "activation" / "generate.py").write_text("raise RuntimeError('registers nothing')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    yield importlib.import_module("acme_lowerings.table").LOWERINGS
    for name in [name for name in sys.modules if name.startswith("acme_lowerings")]:
        del sys.modules[name]


def test_modules_are_found_by_walking_the_package(table: Lowerings[object]) -> None:
    assert "acme_lowerings.activation.lower" not in sys.modules
    assert table.find("", "Tanh") == "tanh"
    assert table.operators() == {("", "Relu"), ("", "Tanh"), ("com.acme", "Hypotenuse")}


def test_an_entry_of_the_device_goes_before_the_common_one(table: Lowerings[object]) -> None:
    assert table.find("", "Relu") == "relu"
    assert table.find("", "Relu", "x2") == "relu of x2"
    assert table.find("", "Relu", "x3") == "relu"
    assert table.find("", "Tanh", "x2") == "tanh"
    assert table.find("com.acme", "Relu") is None


def test_a_decorated_function_stays_as_it_is(table: Lowerings[object]) -> None:
    found = table.find("com.acme", "Hypotenuse")
    assert callable(found)
    assert found() == "called"


def test_a_second_entry_is_refused(table: Lowerings[object]) -> None:
    table.load()
    with pytest.raises(UsageError, match=r"the acme provider has two lowerings of ai\.onnx\.Relu$"):
        table.add({"Relu": "another"})
    with pytest.raises(UsageError, match=r"two lowerings of ai\.onnx\.Relu on x2$"):
        table.add({"Relu": "another"}, device="x2")
    table.add({"Relu": "another"}, device="x3")
    assert table.find("", "Relu", "x3") == "another"


def test_no_thread_sees_half_of_the_table(table: Lowerings[object]) -> None:
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(table.find("", "Tanh"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["tanh"] * 8
