"""`mace memory`: what a process holds, by what it is for, and over time."""

from __future__ import annotations

import json
import mmap
import os
from pathlib import Path

import numpy as np
import pytest

from mace_core.host.children import ChildFailedError, ask_child
from mace_core.host.smaps import mapped_ranges
from mace_core.measurement import MemoryObserver, MemoryReport
from mace_core.measurement.memory import KindUse, held_array_bytes
from mace_core.measurement.model_files import model_files

MIB = 1 << 20
LINUX = pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="only Linux tells what mappings hold")

SMAPS = """55d0c0000000-55d0c0010000 r-xp 00002000 fe:00 5760891      /usr/lib/libllvmlite.so (deleted)
Size:                 64 kB
Rss:                  40 kB
Pss:                  25 kB
Shared_Clean:         30 kB
Shared_Dirty:          0 kB
Private_Clean:         8 kB
Private_Dirty:         2 kB
Swap:                  4 kB
VmFlags: rd ex mr mw me
7ffc5f0e0000-7ffc5f101000 rw-p 00000000 00:00 0                          [stack]
Rss:                  12 kB
Pss:                  12 kB
Private_Dirty:        12 kB
"""


def test_what_the_system_tells_of_mappings_is_read(tmp_path: Path) -> None:
    (tmp_path / "smaps").write_text(SMAPS)
    library, stack = mapped_ranges(tmp_path / "smaps")
    assert library.path == "/usr/lib/libllvmlite.so"
    assert library[5:] == (40 << 10, 25 << 10, 10 << 10, 30 << 10, 4 << 10)
    assert library.is_executable
    assert (stack.path, stack.pss, stack.is_executable) == ("[stack]", 12 << 10, False)
    assert mapped_ranges(tmp_path / "missing") == []


@LINUX
def test_pages_of_the_model_and_anonymous_memory_are_told_apart(tmp_path: Path) -> None:
    model = tmp_path / "weights.bin"
    model.write_bytes(os.urandom(4 * MIB))
    observer = MemoryObserver("m", [model])
    with observer:
        observer.end("before")
        with model.open("rb") as file:
            pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        touched = sum(pages[place] for place in range(0, len(pages), 4096))
        own = [np.ones(48 * MIB, np.uint8)]
        observer.end("after")
    assert touched
    before, after = observer.report.moments
    kind = "heap and anonymous memory"
    assert after.kinds["model files"].rss == 4 * MIB
    # (a process of many tests may give some of its heap back meanwhile)
    assert after.kinds[kind].private - before.kinds[kind].private >= own[0].nbytes - 16 * MIB
    assert after.array_bytes - before.array_bytes == own[0].nbytes
    assert after.total.pss == sum(use.pss for use in after.kinds.values())


def test_arrays_that_the_caller_feeds_are_not_counted() -> None:
    fed = {"x": np.zeros(3 * MIB, np.uint8)}
    holder = [fed]
    assert holder[0] is fed
    assert held_array_bytes({}) - held_array_bytes(fed) == fed["x"].nbytes


def test_a_report_survives_json() -> None:
    report = MemoryReport("m", steady=[1, 2, 3, 7], arenas={"host": (5, 4)}, marks=[(0.5, "load")], samples=[(0.1, 9)])
    assert MemoryReport.from_data(json.loads(json.dumps(report.as_data()))) == report
    assert report.growth_bytes == 4
    assert KindUse(1, 2, 3, 4, 5).plus(KindUse(1, 1, 1, 1, 1)) == KindUse(2, 3, 4, 5, 6)


class TestChild:
    def test_what_libraries_print_is_not_the_answer(self) -> None:
        lines = ("import sys", "print('noise')", "sys.argv[:] = ['a', 'b']", "return {'twice': question['n'] * 2}")
        code = "\n    ".join(("def answer(question):", *lines))
        assert ask_child(code, {"n": 21}, keeps_quiet=True) == {"twice": 42}

    @pytest.mark.parametrize(
        ("body", "code"),
        [("raise ValueError('broken')", 1), ("import os; os.abort()", -6), ("import os; os._exit(0)", 0)],
    )
    def test_a_child_that_ends_without_an_answer_is_an_error(self, body: str, code: int) -> None:
        with pytest.raises(ChildFailedError) as failed:
            ask_child(f"def answer(question):\n    {body}", {}, keeps_quiet=True)
        assert failed.value.code == code
        assert ("broken" in failed.value.said) == (code == 1)


@LINUX
def test_who_looks_maps_nothing_of_the_model_any_more(tmp_path: Path) -> None:
    """Else its pages would count by half only in the process that is looked at."""
    path = tmp_path / "big.onnx"
    onnx = pytest.importorskip("onnx")
    weight = onnx.numpy_helper.from_array(np.ones(MIB, np.float32), "w")
    ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [MIB]) for name in "xy"]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Add", ["x", "w"], ["y"])], "g", ends[:1], ends[1:], [weight])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)
    files, nbytes = model_files(path)
    assert (files, nbytes) == ([path], 4 * MIB)
    assert str(path) not in {each.path for each in mapped_ranges()}
