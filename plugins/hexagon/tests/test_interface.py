"""The interface version is read first, and an unknown one is refused before anything else is touched."""

from __future__ import annotations

import ctypes as c
import ctypes.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mace_hexagon.qnn import interface
from mace_hexagon.qnn.errors import error_class
from mace_hexagon.qnn.handles import QnnDevice, soc_target
from mace_hexagon.qnn.types import ApiVersion, InterfaceHeader, Version

from mace_core.errors import OutOfMemoryError, ProviderBugError, ProviderError, UnsupportedError

HeaderPointer = c.POINTER(InterfaceHeader)


class FakeLibrary:
    """Hands out an interface of any version; its table is unreadable memory."""

    def __init__(self, major: int, minor: int) -> None:
        self.header = InterfaceHeader(6, b"FAKE", ApiVersion(Version(major, minor, 1), Version(5, 0, 0)))
        self._list = (HeaderPointer * 1)(c.pointer(self.header))

    def get_providers(self, providers: object, count: object) -> int:
        c.cast(providers, c.POINTER(c.c_void_p))[0] = c.addressof(self._list)  # type: ignore[arg-type]
        c.cast(count, c.POINTER(c.c_uint32))[0] = 1  # type: ignore[arg-type]
        return 0


@pytest.mark.parametrize(("major", "minor"), [(1, 40), (3, 0), (2, 12), (2, 35), (2, 41), (2, 99)])
def test_another_version_is_refused_before_the_table_is_read(
    major: int, minor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interface, "_TABLE", None)  # reading it would be a TypeError
    with pytest.raises(ProviderError, match=rf"has version {major}\.{minor}\.1 .* knows 2\.36 to 2\.40") as caught:
        interface.from_providers("libFake.so", FakeLibrary(major, minor).get_providers)
    assert "pip install onnxruntime-qnn" in str(caught.value)


@pytest.mark.parametrize("minor", [36, 40])
def test_a_known_version_is_taken(minor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interface, "_TABLE", ())
    found = interface.from_providers("libFake.so", FakeLibrary(2, minor).get_providers)
    assert str(found.version) == f"2.{minor}.1"
    assert found.name == "FAKE"


def test_a_library_without_qnn_is_named() -> None:
    path = ctypes.util.find_library("m")
    if path is None:
        pytest.skip("no C mathematics library is found here")
    with pytest.raises(ProviderError, match="is not a QNN backend library"):
        interface.load(Path(path))


def test_the_real_library_is_a_known_version(library_folder: Path) -> None:
    found = interface.load(library_folder / "libQnnHtp.so")
    assert found.version.major == 2
    assert found.name == "HTP_QTI_AISW"


def test_errors_of_the_library_become_the_contracts_classes(library_folder: Path) -> None:
    found = interface.load(library_folder / "libQnnHtp.so")
    assert isinstance(found.error(1002, "do it"), OutOfMemoryError)
    assert isinstance(found.error(5005, "do it"), UnsupportedError)
    assert isinstance(found.error(14000, "do it"), ProviderBugError)
    assert "could not do it: QNN_COMMON_ERROR_MEM_ALLOC" in str(found.error(1002, "do it"))


def test_a_code_nobody_knows_is_still_an_error() -> None:
    assert error_class("QNN error 77 (0x4d)") is ProviderError


def test_a_refused_soc_is_one_error_with_the_librarys_words(library_folder: Path) -> None:
    found = interface.load(library_folder / "libQnnHtp.so")
    with pytest.raises(ProviderError, match=r"could not open x: .*Unknown config socModel"):
        QnnDevice(found, "x", soc_target(9999))


def test_loading_leaves_the_standard_output_clean(library_folder: Path) -> None:
    """The emulation greets there, and would spoil what a program prints."""
    program = "from pathlib import Path; from mace_hexagon.qnn.library import load; print('before'); " + (
        f"load(Path({str(library_folder / 'libQnnHtp.so')!r}), keep_started=True); print('after')"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["before", "after"]
