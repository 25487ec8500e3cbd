"""Reports of real quantizations."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from mace_core.errors import MaceError
from mace_core.quantization import Quantizer, Settings
from mace_core.quantization.calibrate import MEMORY_BYTES, Runner
from mace_core.quantization.report import Report
from mace_core.quantization.report.make import counterparts, write_report
from mace_core.quantization.report.warnings import warnings

sys.path.insert(0, str(Path(__file__).parent))
from quantization_networks import residual_network, samples, sqnr_db


def made(folder: Path, settings: Settings | None = None, *, memory_bytes: int = MEMORY_BYTES) -> Report:
    model, output = folder / "net.onnx", folder / "net.q.onnx"
    onnx.save(residual_network(), model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Runner.__init__, "__defaults__", (None, None, memory_bytes))
        found = Quantizer(str(model), settings).run(output, data=samples(12), reports=True).report
    assert found is not None
    assert (found.size_before, found.size_after) == (model.stat().st_size, output.stat().st_size)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def int8(folder: Path) -> Report:
    return made(folder)


def test_every_quantized_layer_is_compared_and_has_plausible_figures(int8: Report) -> None:
    assert int8.quantized
    measured = [layer for layer in int8.quantized if layer.sqnr_db is not None]
    assert {layer.op_type for layer in measured} >= {"Conv", "Add", "Gemm"}
    for layer in measured:
        assert layer.sqnr_db is not None and layer.cosine is not None
        assert layer.form in ("int8", "uint8")
        assert 15 < layer.sqnr_db < 70, layer
        assert 0.98 < layer.cosine <= 1.0
    convolutions = [layer for layer in int8.layers if layer.op_type == "Conv"]
    assert {layer.op_type for layer in measured}.isdisjoint({"Relu", "Clip"})  # part of the step before
    for layer in convolutions:
        assert layer.sqnr_db is not None
        assert layer.weight_sqnr_db is not None and 35 < layer.weight_sqnr_db < 70
        assert layer.stored_bytes < 0.5 * layer.float_bytes


def test_the_last_layer_is_as_far_off_as_the_two_files_are(int8: Report, folder: Path) -> None:
    results = []
    for name in ("net.onnx", "net.q.onnx"):
        session = onnxruntime.InferenceSession(str(folder / name), providers=["CPUExecutionProvider"])
        results.append(np.stack([session.run(None, {"x": x})[0] for x in samples(12)[:8]]))
    (last,) = (layer for layer in int8.layers if layer.output == "y")
    assert last.sqnr_db == pytest.approx(sqnr_db(results[1], results[0]), abs=0.5)


def test_ranges_are_those_that_calibration_saw(int8: Report) -> None:
    values = {value.name: value for value in int8.values}
    fed = np.concatenate(samples(12))
    assert values["x"].seen_low == pytest.approx(float(fed.min()))
    assert values["x"].seen_high == pytest.approx(float(fed.max()))
    assert sum(values["x"].counts) == fed.size
    assert all(value.clipped == 0.0 for value in int8.values)
    assert any("thin: 12 samples" in sentence for sentence in warnings(int8))


def test_percentiles_clip_and_the_report_says_so(folder: Path) -> None:
    found = made(folder, Settings(algorithm="percentile", percentile=99.0))
    assert any(value.clipped > 0.001 for value in found.values)
    assert any("clip numbers" in sentence for sentence in warnings(found))


def test_layers_in_float_have_their_reason(folder: Path) -> None:
    found = made(folder, Settings(exclude=("Gemm",)))
    (gemm,) = (layer for layer in found.layers if layer.op_type == "Gemm")
    assert gemm.is_float
    assert "excluded" in gemm.reason
    assert any("1 Gemm: excluded" in sentence for sentence in warnings(found))


def test_little_memory_takes_more_passes_and_changes_nothing(folder: Path, int8: Report) -> None:
    found = made(folder, memory_bytes=1)
    assert [layer.sqnr_db for layer in found.layers] == pytest.approx([layer.sqnr_db for layer in int8.layers])


@pytest.mark.parametrize("scheme", ["dynamic", "fp16", "a16w8", "int4-weight"])
def test_other_schemes_have_a_report_too(folder: Path, scheme: str) -> None:
    found = made(folder, Settings(scheme))
    assert found.quantized
    assert [layer for layer in found.layers if layer.sqnr_db is not None]
    thin = any("thin" in sentence for sentence in warnings(found))
    assert thin == (scheme == "a16w8")


def test_equalized_layers_are_compared_with_equalized_ones(folder: Path) -> None:
    found = made(folder, Settings(equalizes=True))
    assert min(layer.sqnr_db for layer in found.quantized if layer.sqnr_db is not None) > 15


def test_the_file_is_a_page_or_json_by_its_name_and_whole_or_not_there(int8: Report, folder: Path) -> None:
    write_report(folder / "r.html", int8)
    assert (folder / "r.html").read_text().startswith("<!doctype html>")
    write_report(folder / "r.json", int8)
    assert json.loads((folder / "r.json").read_text())["samples"] == 12
    with pytest.raises(MaceError, match="cannot be written"):
        write_report(folder / "nowhere" / "r.html", int8)


def test_counterparts_are_what_is_dequantized(folder: Path, int8: Report) -> None:
    from mace_core.frontend.load import load_model

    pairs = counterparts(load_model(str(folder / "net.onnx")), load_model(str(folder / "net.q.onnx")))
    assert pairs["y"] == "y"
    assert sum(name.endswith("DequantizeLinear_Output") for name in pairs.values()) >= 5
