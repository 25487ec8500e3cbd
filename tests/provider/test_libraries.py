"""Looking for shared libraries where the loader would."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from mace_core.provider import find_library, libraries, library_directories


@pytest.fixture(autouse=True)
def no_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    monkeypatch.setattr(libraries, "_system_directories", tuple)


def test_a_better_name_outranks_a_better_folder(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    (first / "worse.so").touch()
    (second / "better.so").touch()
    assert find_library(["better.so", "worse.so"], directories=[first, second]) == second / "better.so"


def test_an_absolute_name_is_only_looked_at_itself(tmp_path: Path) -> None:
    (tmp_path / "lib.so").touch()
    assert find_library([str(tmp_path / "lib.so")]) == tmp_path / "lib.so"
    assert find_library([str(tmp_path / "other" / "lib.so")], directories=[tmp_path]) is None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the variable of Linux")
def test_the_loader_s_variable_is_searched_and_absent_folders_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", f"{tmp_path / 'absent'}:{tmp_path}")
    assert library_directories() == [tmp_path]


def test_the_loader_s_configuration_is_followed(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "a.conf").write_text("# comment\n/opt/a  # more\n")
    (tmp_path / "conf.d" / "b.conf").write_text(f"/opt/b\ninclude {tmp_path / 'ld.so.conf'}\n")
    (tmp_path / "ld.so.conf").write_text("include conf.d/*.conf\n/opt/c\nhwcap 0 nosegneg\n")
    found = libraries._read_configuration(tmp_path / "ld.so.conf", set())
    assert [str(path) for path in found] == ["/opt/a", "/opt/b", "/opt/c"]


def test_a_configuration_that_is_not_there_names_nothing(tmp_path: Path) -> None:
    assert libraries._read_configuration(tmp_path / "absent", set()) == []


def test_what_lies_in_the_current_directory_is_no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty part of the loader's variable means the current directory, and so may a relative one."""
    (tmp_path / "sub").mkdir()
    for folder in (tmp_path, tmp_path / "sub"):
        (folder / "libmodel.so").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(libraries._PATH_VARIABLE, os.pathsep.join(["", ".", "sub", "sub/..", ""]))
    assert find_library(["libmodel.so"]) is None
    monkeypatch.setenv(libraries._PATH_VARIABLE, str(tmp_path))
    assert find_library(["libmodel.so"]) == tmp_path / "libmodel.so"
