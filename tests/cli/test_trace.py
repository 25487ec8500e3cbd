"""`mace benchmark --trace` and `--timeline`: files that show what each thread did when."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mace_core.report.model_facts import ModelFacts
from mace_core.report.step_times import by_type, step_times
from mace_core.report.timeline import timeline_svg
from mace_core.report.trace import chrome_trace
from mace_core.scheduler.profile import Part, Profile, Span

Mace = Callable[..., Any]

FACTS = ModelFacts(
    macs={"conv": 8_000_000, "product": 2_000_000},
    operators={"conv": "Conv", "relu": "Relu", "product": "MatMul", "loop": "Loop"},
    shapes={"conv": "1x8x9x9", "relu": "1x8x9x9"},
)


def profile() -> Profile:
    """Two steps of a device with threads, the second beside the first's end; then one of a device without."""
    found = Profile(start_ns=1_000_000, end_ns=9_000_000)
    found.spans = [
        Span("Conv+Relu", ("conv", "relu"), "cpu:0", 1_100_000, 3_100_000),
        Span("pack", (), "cpu:0", 3_000_000, 4_000_000),
        Span("MatMul", ("product",), "acme:0", 4_000_000, 5_000_000),
    ]
    found.parts = [
        Part("MainThread", "Conv+Relu", ("conv", "relu"), "cpu:0", 1_100_000, 2_000_000),
        Part("mace-worker-0", "Conv+Relu", ("conv", "relu"), "cpu:0", 1_200_000, 3_100_000),
        Part("MainThread", "pack", (), "cpu:0", 3_000_000, 4_000_000),
    ]
    return found


def tracks(trace: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Complete events by the name of their track."""
    events = trace["traceEvents"]
    names = {e["tid"]: e["args"]["name"] for e in events if e["ph"] == "M" and e["name"] == "thread_name"}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names.values()}
    for event in events:
        if event["ph"] == "X":
            found[names[event["tid"]]].append(event)
    return found


class TestTrace:
    def test_a_track_for_runs_one_for_each_device_and_one_for_each_thread(self) -> None:
        found = tracks(chrome_trace([profile()], FACTS, "m.onnx"))
        assert list(found) == [
            "run",
            "cpu:0 steps",
            "cpu:0 steps (2)",
            "acme:0 steps",
            "cpu:0 MainThread",
            "cpu:0 mace-worker-0",
        ]
        assert [e["name"] for e in found["cpu:0 MainThread"]] == ["Conv+Relu", "pack"]
        assert [e["name"] for e in found["acme:0 steps"]] == ["MatMul"]

    def test_times_are_microseconds_from_the_first_run(self) -> None:
        found = tracks(chrome_trace([profile()], FACTS, "m.onnx"))
        (worker,) = found["cpu:0 mace-worker-0"]
        assert (worker["ts"], worker["dur"]) == (200.0, 1900.0)
        (run,) = found["run"]
        assert (run["ts"], run["dur"]) == (0.0, 4000.0)  # to the end of the last step

    def test_events_say_what_they_are(self) -> None:
        (worker,) = tracks(chrome_trace([profile()], FACTS, "m.onnx"))["cpu:0 mace-worker-0"]
        assert worker["args"] == {
            "step": "Conv+Relu",
            "nodes": ["conv", "relu"],
            "device": "cpu:0",
            "output shape": "1x8x9x9",
            "MMAC of the nodes": 8.0,
        }

    def test_events_of_a_track_never_overlap_but_control_flow_nests(self) -> None:
        found = Profile(start_ns=0, end_ns=100)
        found.spans = [
            Span("a", (), "cpu:0", 0, 50),
            Span("b", (), "cpu:0", 10, 20),
            Span("c", (), "cpu:0", 30, 60),
            Span("d", (), "cpu:0", 50, 90),
            Span("inner", ("loop",), "core", 10, 20),
            Span("outer", ("loop",), "core", 0, 90),
        ]
        found_tracks = tracks(chrome_trace([found], FACTS, "m"))
        steps = {name: [e["args"].get("step") for e in events] for name, events in found_tracks.items()}
        assert steps["cpu:0 steps"] == ["a", "d"]
        assert steps["cpu:0 steps (2)"] == ["b", "c"]
        assert steps["core steps"] == ["outer", "inner"]

    def test_several_runs_follow_each_other(self) -> None:
        second = profile()
        second.start_ns += 10_000_000
        second.spans = [Span(s.name, s.source, s.device, s.start_ns + 10**7, s.end_ns + 10**7) for s in second.spans]
        found = tracks(chrome_trace([profile(), second], FACTS, "m"))
        assert [(e["name"], e["ts"]) for e in found["run"]] == [("run 1", 0.0), ("run 2", 10_000.0)]


class TestTimeline:
    def test_rows_boxes_and_legend(self) -> None:
        root = ET.fromstring(timeline_svg(profile(), FACTS, "a<b>.onnx"))
        texts = ["".join(each.itertext()) for each in root.iter("{http://www.w3.org/2000/svg}text")]
        assert texts[0] == "a<b>.onnx: one run, 4.000 ms"
        for row in ("cpu:0 MainThread", "cpu:0 mace-worker-0", "acme:0"):
            assert row in texts
        assert "Conv+Relu 2.800 ms, 58%" in texts
        hints = [each.text for each in root.iter("{http://www.w3.org/2000/svg}title")]
        assert "Conv+Relu\n1x8x9x9\n1900.0 µs\nconv, relu" in hints
        assert len(hints) == 4
        # the steps of a device with threads are shown by its threads alone
        assert "cpu:0" not in texts

    def test_a_run_without_steps_is_a_picture_too(self) -> None:
        assert ET.fromstring(timeline_svg(Profile(start_ns=5, end_ns=5), FACTS, "m")).tag.endswith("svg")


class TestTable:
    def test_speed_and_share_of_peak(self) -> None:
        steps = step_times([profile()], FACTS, {"cpu:0": 8e9})
        assert [(s.name, s.kind, s.shape) for s in steps] == [
            ("conv", "Conv+Relu", "1x8x9x9"),
            ("pack", "pack", ""),
            ("product", "MatMul", ""),
        ]
        assert steps[0].speed == pytest.approx(4e9)
        assert steps[0].share_of_peak == pytest.approx(0.5)
        assert steps[1].speed is None
        assert steps[2].speed == pytest.approx(2e9)
        assert steps[2].share_of_peak is None  # nobody knows the peak of that device
        (conv, *_) = by_type(steps)
        assert conv.kind == "Conv+Relu"
        assert conv.share_of_peak == pytest.approx(0.5)


def test_the_command_writes_both_and_says_so(mace: Mace, model: Path, tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text("old")
    done = mace("benchmark", "model.onnx", "--runs", "2", "--trace", "t.json", "--timeline", "t.svg")
    assert done.returncode == 0, done.stderr
    assert "t.json written\nt.svg written\n" in done.stdout
    found = tracks(json.loads((tmp_path / "t.json").read_text()))
    assert [e["name"] for e in found["run"]] == ["run 1", "run 2"]
    assert [e["name"] for e in found["reference:0 steps"]] == ["Gemm", "Relu"] * 2
    assert ET.parse(tmp_path / "t.svg").getroot().tag.endswith("svg")
    assert {p.name for p in tmp_path.iterdir()} == {"cache", "model.onnx", "t.json", "t.svg"}  # nothing half written


@pytest.mark.parametrize(
    ("option", "file", "words"),
    [
        ("--trace", "missing/t.json", "there is no folder 'missing'"),
        ("--timeline", "missing/t.svg", "there is no folder 'missing'"),
        ("--timeline", "t.png", "its name must end in .svg"),
        ("--trace", "t.txt", "its name must end in .json"),
        ("--json-file", "missing/t.json", "there is no folder 'missing'"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_before_the_runs(
    mace: Mace, model: Path, option: str, file: str, words: str
) -> None:
    done = mace("benchmark", "model.onnx", option, file)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stdout == ""


class TestOnTheProcessor:
    """With the CPU provider, whose threads tell what they do."""

    @pytest.fixture
    def convolution(self, tmp_path: Path) -> Path:
        onnx = pytest.importorskip("onnx")
        pytest.importorskip("mace_cpu")
        from onnx import TensorProto, helper, numpy_helper

        info = [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 32, 64, 64]),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 32, 64, 64]),
        ]
        weights = numpy_helper.from_array(np.ones((32, 32, 3, 3), np.float32), "w")
        node = helper.make_node("Conv", ["x", "w"], ["y"], name="conv", pads=[1, 1, 1, 1])
        graph = helper.make_graph([node], "g", info[:1], info[1:], [weights])
        path = tmp_path / "conv.onnx"
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
        return path

    def test_threads_have_tracks_and_the_peak_is_measured(self, mace: Mace, convolution: Path, tmp_path: Path) -> None:
        options = ("--device", "cpu", "--threads", "2", "--runs", "3", "--json", "--trace", "t.json")
        done = mace("benchmark", "conv.onnx", *options, plugins="cpu")
        assert done.returncode == 0, done.stderr
        shown = json.loads(done.stdout)
        assert shown["peak_gmac_per_second"]["cpu:0"] > 0.1
        (step,) = [s for s in shown["steps"] if s["macs"]]
        assert step["macs"] == 32 * 32 * 9 * 64 * 64
        peak = 1e9 * shown["peak_gmac_per_second"]["cpu:0"]
        assert step["share_of_peak"] == pytest.approx(step["macs"] / step["seconds"] / peak)
        assert step["shape"] == "1x32x64x64"
        found = tracks(json.loads((tmp_path / "t.json").read_text()))
        assert "cpu:0 MainThread" in found
        parts = [
            e for name, events in found.items() if name.startswith("cpu:0") and "steps" not in name for e in events
        ]
        steps = found["cpu:0 steps"]
        assert len([e for e in parts if e["name"] == "Conv"]) >= 3
        assert min(e["ts"] for e in steps) <= min(e["ts"] for e in parts)
        assert max(e["ts"] + e["dur"] for e in parts) <= max(e["ts"] + e["dur"] for e in steps) + 1e-3
