"""Objects put together into one, and archives: what linkers take, and what is wrong with objects."""

from __future__ import annotations

import functools
import io
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mace_core.native.archive import Member, write_archive
from mace_core.native.compiler import compile_module
from mace_core.native.named_targets import TARGET_NAMES, named_target
from mace_core.native.relocatable import DataSection, Relocatable, UnresolvedError

CALLER = """
declare i64 @callee(i64)
@table = external hidden constant [2 x i64]
define i64 @caller(i64 %x) {
  %second = getelementptr i64, ptr @table, i64 1
  %more = load i64, ptr %second
  %sum = add i64 %x, %more
  %answer = call i64 @callee(i64 %sum)
  ret i64 %answer
}
"""
CALLEE = "define i64 @callee(i64 %x) {\n  %twice = mul i64 %x, 2\n  ret i64 %twice\n}\n"
TABLE = DataSection("table", [(7).to_bytes(8, "little"), (20).to_bytes(8, "little")], 64)


@functools.cache
def objects(target: str = "host") -> dict[str, bytes]:
    wanted = named_target(target).target
    return {
        "caller": compile_module(CALLER, ["caller"], "caller", wanted),
        "callee": compile_module(CALLEE, ["callee"], "callee", wanted),
    }


def written(merged: Relocatable) -> bytes:
    file = io.BytesIO()
    assert merged.write(file) == len(file.getvalue())
    return file.getvalue()


def test_objects_and_data_become_one_that_a_linker_takes(tmp_path: Path) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    merged = Relocatable(objects(), ["caller"], [TABLE])
    assert merged.imports == frozenset()
    assert merged.sizes.data == 16
    (tmp_path / "both.o").write_bytes(written(merged))
    with (tmp_path / "libboth.a").open("wb") as file:
        write_archive(file, [Member(tmp_path / "both.o", ["caller"])])
    main = "#include <stdio.h>\nlong caller(long);\nlong callee(long x) { return x; }\n"
    (tmp_path / "main.c").write_text(
        main + 'int main(void) { printf("%ld %ld\\n", caller(1), callee(5)); return 0; }\n'
    )
    for library in ("both.o", "libboth.a"):
        subprocess.run(["gcc", "main.c", library, "-o", "main"], cwd=tmp_path, check=True)
        ran = subprocess.run([str(tmp_path / "main")], capture_output=True, text=True, check=True)
        assert ran.stdout == "42 5\n", "what is not exported does not collide with the program's own"


@pytest.mark.parametrize("target", TARGET_NAMES)
def test_objects_of_every_target_are_read_and_written(target: str) -> None:
    image = written(Relocatable(objects(target), ["caller"], [TABLE]))
    again = written(Relocatable({"once more": image}, ["caller"]))
    assert written(Relocatable({"once more": again}, ["caller"])) == again


def test_what_does_not_fit_together_is_refused() -> None:
    both = objects()
    assert Relocatable({"caller": both["caller"]}, ["caller"]).imports == {"callee", "table"}
    with pytest.raises(UnresolvedError, match="no object defines 'nobody'"):
        Relocatable(both, ["nobody"], [TABLE])
    with pytest.raises(UnresolvedError, match="'callee' is defined twice, the second time by 'other'"):
        Relocatable({**both, "other": both["callee"]}, ["caller"], [TABLE])
    with pytest.raises(ValueError, match="different processors"):
        Relocatable({**both, "other": objects("arm64-v8a")["callee"]}, ["caller"])


@given(st.data())
def test_a_damaged_object_is_an_error_and_nothing_else(data: st.DataObject) -> None:
    image = bytearray(objects()["caller"])
    place = data.draw(st.integers(0, len(image) - 1))
    image[place] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.integers(0, len(image)))
    for damaged in (bytes(image), bytes(image[:cut])):
        try:
            merged = Relocatable({"caller": damaged}, [])
        except ValueError as error:
            assert str(error)
        else:
            assert written(merged)[:4] == b"\x7fELF"
