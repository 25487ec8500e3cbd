"""What killed processes leave is removed by the next one, and what others are making is not."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mace_core.host.files import replacing
from mace_core.host.staging import staging_folder, staging_path

pytest.importorskip("fcntl")

KILLED = """
import os, signal, sys
from pathlib import Path
from mace_core.host.files import replacing
from mace_core.host.staging import staging_folder
place = Path(sys.argv[1])
with staging_folder(place) as folder, replacing(place) as file:
    (folder / "half").write_bytes(b"half")
    file.write(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def made_long_ago(folder: Path) -> None:
    for path in folder.iterdir():
        os.utime(path, (0, 0))


def test_what_a_killed_process_left_is_removed_by_the_next_one(tmp_path: Path) -> None:
    place = tmp_path / "model.mace"
    subprocess.run([sys.executable, "-c", KILLED, str(place)], check=False)
    assert sorted(path.is_dir() for path in tmp_path.iterdir()) == [False, True]
    others = [tmp_path / ".model.mace.part", tmp_path / f".other.{'0' * 32}.part", tmp_path / "model.mace.part"]
    for other in others:
        other.touch()
    link = staging_path(place)
    link.symlink_to(tmp_path)
    with replacing(place) as file:  # the others are too young: their makers may not have locked them yet
        file.write(b"whole")
    assert len(list(tmp_path.iterdir())) == 2 + len(others) + 1 + 1
    made_long_ago(tmp_path)
    with replacing(place) as file:
        file.write(b"whole")
    assert sorted(tmp_path.iterdir()) == sorted([place, link, *others])


def test_what_another_one_is_making_stays(tmp_path: Path) -> None:
    place = tmp_path / "model.mace"
    with staging_folder(place) as folder:
        made_long_ago(tmp_path)
        with replacing(place) as file:
            (temporary,) = (path for path in tmp_path.iterdir() if path != folder)
            os.utime(temporary, (0, 0))
            with staging_folder(place):
                assert folder.is_dir() and temporary.is_file()
            file.write(b"whole")
        assert folder.is_dir()
    assert list(tmp_path.iterdir()) == [place]


def test_a_pipe_of_such_a_name_is_not_waited_for(tmp_path: Path) -> None:
    place = tmp_path / "model.mace"
    os.mkfifo(staging_path(place))
    made_long_ago(tmp_path)
    with replacing(place) as file:
        file.write(b"whole")
    assert list(tmp_path.iterdir()) == [place]


def test_a_folder_that_cannot_be_held_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("mace_core.host.staging._locked", refuse)
    with pytest.raises(OSError, match="Too many"), staging_folder(tmp_path / "model"):
        pytest.fail("the folder is not held")
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []
