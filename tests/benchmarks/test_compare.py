"""The comparison with other engines: its figures, its tables and files; never how fast anything is."""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from benchmarks.compare import catalogue, cli, measure
from benchmarks.compare.agreement import largest_difference
from benchmarks.compare.catalogue import CATALOGUE, Benchmark, prepare
from benchmarks.compare.convert import NotConvertibleError, convert
from benchmarks.compare.engines import ENGINES, MACE, Engine
from benchmarks.compare.machine import LoadMeter, wait_for_quiet
from benchmarks.compare.report import report
from benchmarks.compare.results import Cell, Comparison, Measurement, Row, geometric_mean
from mace_core.testing.network import NetworkBuilder


def settings_for(benchmark: Benchmark, engines: list[str], folder: Path) -> measure.Settings:
    return measure.Settings(
        [benchmark], engines, [1], folder, rounds=1, runs=3, seconds=0.05, peak_seconds=0.05, lock=folder / "lock"
    )


def tiny() -> Any:
    """x (1, 3, 16, 16) -> y (1, 5), with the operators of the classifiers."""
    net = NetworkBuilder("tiny", (1, 3, 16, 16), seed=3)
    x = net.relu6(net.conv("x", 3, 8, 3, stride=2))
    x = net.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    x = net.op("Add", x, net.swish(net.conv(x, 8, 8, 3, group=8)))
    x = net.op("Concat", x, net.op("Relu", net.conv(x, 8, 4, 1)), axis=1)
    return net.build(net.classifier(net.op("GlobalAveragePool", x), 12, 5), (1, 5))


@pytest.fixture
def benchmark_of() -> Callable[[str], Benchmark]:
    def make(name: str) -> Benchmark:
        feeds = {"x": np.linspace(-1, 1, 3 * 16 * 16, dtype=np.float32).reshape(1, 3, 16, 16)}
        return Benchmark(name, "a tiny network", lambda folder: catalogue.write_network(tiny, folder), lambda: feeds)

    return make


@pytest.fixture
def found(benchmark_of: Callable[[str], Benchmark], tmp_path: Path) -> Comparison:
    pytest.importorskip("onnxruntime")
    settings = settings_for(benchmark_of("tiny"), [MACE, "onnxruntime"], tmp_path)
    told: list[str] = []
    result = measure.compare(settings, told.append)
    assert len(told) == measure.steps(settings)
    return result


class TestComparison:
    def test_two_engines_side_by_side(self, found: Comparison, tmp_path: Path) -> None:
        (row,) = found.rows
        assert {name: cell.ran for name, cell in row.cells.items()} == {"mace": True, "onnxruntime": True}
        assert row.fastest_peer() == "onnxruntime"
        assert row.ratio() == pytest.approx(row.cells[MACE].median_ms / row.cells["onnxruntime"].median_ms)
        assert found.differences["tiny"][MACE] < 1e-4
        assert found.peaks[1] > 0

        lines = [line for line in report(found).splitlines() if line.startswith("| tiny")]
        assert len(lines) == 3, "times, starts and memory, differences"
        assert "onnxruntime" in lines[0] and f"{row.ratio():.2f}" in lines[0]

        data = json.loads(json.dumps(found.as_data()))
        assert data["rows"][0]["engines"]["mace"]["measurements"][0]["runs"] >= 3
        assert data["rows"][0]["ratio"] == row.ratio()
        assert data["mean_ratios"]["1"]["fastest"] == pytest.approx(row.ratio())

    def test_in_8_bits_all_run_one_quantized_file(
        self, benchmark_of: Callable[[str], Benchmark], tmp_path: Path
    ) -> None:
        pytest.importorskip("onnxruntime")
        settings = settings_for(benchmark_of("tiny"), [MACE, "onnxruntime"], tmp_path)
        told: list[str] = []
        result = measure.compare(replace(settings, precision="int8"), told.append)
        assert len(told) == measure.steps(replace(settings, precision="int8"))
        (row,) = result.rows
        assert row.cells[MACE].ran
        assert row.cells["onnxruntime"].ran
        assert "batch 1, int8" in report(result)
        assert result.as_data()["precision"] == "int8"
        (file,) = tmp_path.glob("tiny-int8-*.onnx")
        operators = {node.op_type for node in onnx.load(file).graph.node}
        assert {"QuantizeLinear", "DequantizeLinear"} <= operators

    def test_trained_lite_files_are_run_as_they_are_by_those_who_read_them(self, tmp_path: Path) -> None:
        pytest.importorskip("ai_edge_litert")
        benchmark = CATALOGUE["hey_mycroft.tflite"]
        settings = settings_for(benchmark, [MACE, "litert", "onnxruntime"], tmp_path)
        result = measure.compare(replace(settings, precision="tflite"), str)
        (row,) = result.rows
        assert row.cells[MACE].ran and row.cells["litert"].ran
        assert "reads no .tflite file" in row.cells["onnxruntime"].missing
        assert result.differences[benchmark.name][MACE] < 1e-5

    @pytest.mark.parametrize("engine", ["ncnn", "mnn", "litert"])
    def test_others_run_a_quantized_form_of_their_own(
        self, engine: str, benchmark_of: Callable[[str], Benchmark], tmp_path: Path
    ) -> None:
        if ENGINES[engine].version() is None:
            pytest.skip(f"{engine} is not installed: {ENGINES[engine].install}")
        settings = settings_for(benchmark_of("tiny"), [MACE, engine], tmp_path)
        result = measure.compare(replace(settings, precision="int8"), str)
        cell = result.rows[0].cells[engine]
        if "not installed" in cell.missing:
            pytest.skip(cell.missing)
        assert cell.ran, cell.missing
        # LiteRT's own form of this network is 0.15 of the range off the float model, MACE's 0.014
        assert result.differences["tiny"][MACE] < 0.25
        assert f"- {engine}: the same network in a quantized form of its own" in report(result)

    def test_ncnn_gets_weights_in_8_bits(self, benchmark_of: Callable[[str], Benchmark], tmp_path: Path) -> None:
        if ENGINES["ncnn"].version() is None:
            pytest.skip(f"ncnn is not installed: {ENGINES['ncnn'].install}")
        prepared = prepare(benchmark_of("tiny"), tmp_path)
        floats, steps = (convert(prepared, form, tmp_path) for form in ("ncnn", "ncnn-int8"))
        sizes = [(folder / "model.ncnn.bin").stat().st_size for folder in (floats, steps)]
        assert sizes[1] < 0.6 * sizes[0]
        lines = (steps / "model.ncnn.param").read_text().splitlines()
        convolutions = [line for line in lines if line.startswith(("Convolution", "InnerProduct"))]
        assert len(convolutions) == 4 and all(" 8=" in line for line in convolutions)

    def test_a_quantizer_that_is_not_installed_is_named(
        self, benchmark_of: Callable[[str], Benchmark], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def absent(name: str) -> str:
            raise importlib.metadata.PackageNotFoundError(name)

        prepared = prepare(benchmark_of("tiny"), tmp_path)
        monkeypatch.setattr(importlib.metadata, "version", absent)
        with pytest.raises(NotConvertibleError, match="'pip install litert-quantizer' brings it"):
            convert(prepared, "tflite-int8", tmp_path)

    def test_the_multiply_adds_are_counted_from_the_shapes(
        self, benchmark_of: Callable[[str], Benchmark], tmp_path: Path
    ) -> None:
        # 8x8x8 outputs of 27 taps, 4x4x8 of 9, 4x4x4 of 8, 5 of 12
        assert prepare(benchmark_of("tiny"), tmp_path).macs == 512 * 27 + 128 * 9 + 64 * 8 + 60

    def test_an_engine_that_is_not_installed_is_left_out_with_its_command(
        self, benchmark_of: Callable[[str], Benchmark], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        absent = Engine("absent", ("no-such-engine",), "pip install no-such-engine", "onnx", ENGINES[MACE].open)
        monkeypatch.setitem(ENGINES, "absent", absent)
        result = measure.compare(settings_for(benchmark_of("tiny"), [MACE, "absent"], tmp_path), str)
        assert list(result.versions) == [MACE]
        assert "absent is not installed: pip install no-such-engine" in report(result)
        assert result.rows[0].ratio() is None

    def test_an_engine_with_other_results_is_not_timed(
        self, benchmark_of: Callable[[str], Benchmark], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        pytest.importorskip("onnxruntime")
        monkeypatch.setattr(measure, "largest_difference", lambda mine, theirs: 0.25)
        settings = settings_for(benchmark_of("tiny"), [MACE, "onnxruntime"], tmp_path)
        result = measure.compare(settings, str)
        assert not result.rows[0].cells[MACE].measurements
        assert "mace has no figures for tiny: its results are off those of onnxruntime by 2.5e-01" in report(result)

    def test_an_engine_that_fails_says_why(
        self, benchmark_of: Callable[[str], Benchmark], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def unknown(prepared: object, form: str, folder: Path) -> Path:
            (folder / "broken.onnx").write_bytes(b"no model")
            return folder / "broken.onnx"

        monkeypatch.setattr(measure, "convert", unknown)
        result = measure.compare(settings_for(benchmark_of("tiny"), [MACE], tmp_path), str)
        assert "it ended with status 1" in result.rows[0].cells[MACE].missing

    def test_litert_is_given_an_equal_model(self, benchmark_of: Callable[[str], Benchmark], tmp_path: Path) -> None:
        pytest.importorskip("ai_edge_litert")
        settings = settings_for(benchmark_of("tiny"), [MACE, "litert"], tmp_path)
        result = measure.compare(settings, str)
        assert result.rows[0].cells["litert"].ran, report(result)
        assert result.differences["tiny"][MACE] < 1e-5

    def test_ctrl_c_keeps_the_rows_there_are(
        self, benchmark_of: Callable[[str], Benchmark], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        settings = settings_for(benchmark_of("tiny"), [MACE], tmp_path)
        second = Benchmark("second", "", lambda folder: pytest.fail("not reached"), dict)

        def told(text: str) -> None:
            if text.startswith("second"):
                raise KeyboardInterrupt

        prepared = prepare(settings.benchmarks[0], tmp_path)
        monkeypatch.setattr(measure, "prepare", lambda benchmark, folder: replace(prepared, name=benchmark.name))
        result = measure.compare(replace(settings, benchmarks=[*settings.benchmarks, second]), told)
        assert [row.model for row in result.rows] == ["tiny"]
        assert "stopped by hand" in report(result)


class TestFigures:
    def test_agreement_is_relative_to_the_range_and_blind_to_dimensions_of_one(self) -> None:
        expected = np.array([[0.0, 10.0, 20.0]])
        assert largest_difference([np.array([0.0, 10.0, 21.0])], [expected]) == pytest.approx(0.05)
        assert largest_difference([np.array([0.5])], [np.array([[0.4]])]) == pytest.approx(0.25)

    @pytest.mark.parametrize("wrong", [[], [np.zeros(4)], [np.full(3, np.nan)]])
    def test_outputs_that_do_not_compare_differ_infinitely(self, wrong: list[Any]) -> None:
        assert largest_difference(wrong, [np.arange(3.0)]) == float("inf")

    def test_the_geometric_mean_leaves_out_what_is_not_there(self) -> None:
        assert geometric_mean([0.5, None, 2.0]) == pytest.approx(1.0)
        assert geometric_mean([None]) is None

    def test_medians_are_over_processes_and_the_ratio_is_to_the_fastest_peer(self) -> None:
        def cell(*medians: float) -> Cell:
            return Cell([Measurement(m, m / 2, 10, 100.0, 1 << 20, other_cores=0.0) for m in medians])

        row = Row("m", "", gflop=1.0, threads=1, cells={"mace": cell(1, 2, 9), "a": cell(8), "b": cell(4, 6)})
        assert (row.cells["mace"].median_ms, row.cells["mace"].min_ms) == (2, 0.5)
        assert (row.fastest_peer(), row.ratio(), row.ratio("a")) == ("b", 0.4, 0.25)
        assert row.share("mace", peak_gflops=1000.0) == pytest.approx(0.5)


class TestMachine:
    def test_the_peak_is_measured_in_a_process_of_its_own(self) -> None:
        command = [sys.executable, "-m", "benchmarks.compare.peak", "1", "0.05"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert float(done.stdout) > 0.1  # GFLOP/s

    def test_load_of_others_is_never_negative(self) -> None:
        meter = LoadMeter()
        sum(range(200_000))
        assert meter.other_cores() >= 0

    def test_waiting_for_quiet_ends_at_its_limit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(LoadMeter, "other_cores", lambda self: 1.5)
        told: list[str] = []
        assert wait_for_quiet(0.6, told.append) == 1.5
        assert told == ["waiting: other processes use 1.5 cores"]


class TestCommand:
    def test_prints_tables_and_writes_the_files(
        self,
        benchmark_of: Callable[[str], Benchmark],
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setitem(CATALOGUE, "tiny", benchmark_of("tiny"))
        monkeypatch.setattr(cli, "Settings", partial(measure.Settings, peak_seconds=0.05, lock=tmp_path / "lock"))
        options = ["--model", "tiny", "--engine", "mace", "--engine", "onnxruntime", "--threads", "1", "--rounds", "1"]
        options += ["--runs", "3", "--seconds", "0.05", "--json", str(tmp_path / "found.json")]
        options += ["--folder", str(tmp_path / "models"), "--features", "baseline"]
        assert cli.main(options) == 0
        written = capsys.readouterr()
        assert "| tiny" in written.out and "MACE held to baseline" in written.out
        assert json.loads((tmp_path / "found.json").read_text())["features"] == "baseline"

    def test_a_chart_is_a_picture(self, tmp_path: Path) -> None:
        pytest.importorskip("matplotlib")
        from benchmarks.compare.chart import write_chart

        cell = Cell([Measurement(1.0, 1.0, 3, 10.0, 1 << 20, 0.0)])
        rows = [Row("m", "", 1.0, threads, {"mace": cell, "peer": cell}) for threads in (1, 2)]
        data = Comparison({"processor": "p"}, {"mace": "1", "peer": "2"}, {}, peaks={1: 100.0, 2: 200.0}, rows=rows)
        write_chart(data, tmp_path / "chart.png")
        assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")

    def test_bars_of_a_chart_are_speeds_relative_to_the_fastest_peer(self) -> None:
        pytest.importorskip("matplotlib")
        from benchmarks.compare.chart import speeds

        def cell(median: float) -> Cell:
            return Cell([Measurement(median, median, 3, 10.0, 1 << 20, 0.0)])

        cells = {"mace": cell(2.0), "a": cell(4.0), "b": cell(8.0), "c": Cell(missing="it broke")}
        assert speeds(Row("m", "", 1.0, 1, cells)) == {"mace": 2.0, "a": 1.0, "b": 0.5}
        assert speeds(Row("m", "", 1.0, 1, {"mace": cell(2.0)})) == {}

    def test_an_unknown_model_is_refused_with_the_known_ones(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            cli.main(["--model", "no_such"])
        assert "mobilenet_v2" in capsys.readouterr().err
