"""Graphs become ONNX models again: equal when imported, accepted by the checker and by onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from graph_strategies import graphs
from hypothesis import given, settings
from onnx.backend.test.case.node import collect_testcases
from onnx_models import everything, package_file, relu_chain
from onnxruntime.capi import onnxruntime_pybind11_state as runtime

from mace_core.errors import ModelError, UsageError
from mace_core.frontend import load_model
from mace_core.frontend.onnx.export import save_onnx, to_onnx
from mace_core.graph import Graph, Node, Value
from mace_core.graph.compare import graph_difference
from mace_core.tensor import DType, Tensor, TensorType

OCR = package_file("rapidocr_onnxruntime", "models")
LIGHT = package_file("onnx", "backend", "test", "data", "light")
VAD = package_file("silero_vad", "data")
NESTED = [VAD / "silero_vad.onnx", VAD / "silero_vad_op18_ifless.onnx"]  # with and without If
REAL_MODELS = sorted([*OCR.glob("*.onnx"), *LIGHT.glob("*.onnx"), *NESTED])


def session(model: onnx.ModelProto | Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def test_the_real_models_are_there() -> None:
    assert len(REAL_MODELS) == 14


@pytest.mark.parametrize("path", REAL_MODELS, ids=lambda p: p.stem)
def test_real_models_round_trip(path: Path) -> None:
    graph = load_model(path)
    exported = to_onnx(graph)
    onnx.checker.check_model(exported)
    assert graph_difference(graph, load_model(exported)) is None
    session(exported)


def test_the_exported_model_computes_the_same() -> None:
    path = OCR / "ch_ppocr_mobile_v2.0_cls_infer.onnx"
    feeds = {"x": np.random.default_rng(0).standard_normal((1, 3, 48, 192)).astype(np.float32)}
    expected = session(path).run(None, feeds)
    for a, b in zip(session(to_onnx(load_model(path))).run(None, feeds), expected, strict=True):
        np.testing.assert_array_equal(a, b)


# All of these, and of the rest of the suite every 12th.
_ALWAYS = ("_if", "_loop", "_scan", "sequence", "optional", "string", "int4", "float8")


REFUSALS = (runtime.Fail, runtime.InvalidArgument, runtime.InvalidGraph, runtime.NotImplemented)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of the suite, when it computes expected results
@pytest.mark.parametrize("every", [12, pytest.param(1, marks=pytest.mark.full)])
def test_models_of_the_onnx_backend_suite_round_trip(every: int) -> None:
    """Whatever onnxruntime accepts as it came, it accepts as we export it."""
    cases = collect_testcases(None)
    chosen = [c for i, c in enumerate(cases) if i % every == 0 or any(word in c.name for word in _ALWAYS)]
    assert len(chosen) > 200
    accepted = 0
    for case in chosen:
        graph = load_model(case.model)
        exported = to_onnx(graph)
        assert graph_difference(graph, load_model(exported)) is None, case.name
        try:
            session(case.model)
        except REFUSALS:  # what onnxruntime does not know it need not accept from us
            continue
        session(exported)
        accepted += 1
    assert accepted > len(chosen) / 2


@given(graphs())
@settings(max_examples=60)
def test_any_graph_comes_back_equal(graph: Graph) -> None:
    assert graph_difference(graph, load_model(to_onnx(graph))) is None


def test_functions_are_gone_and_captures_are_by_name() -> None:
    exported = to_onnx(load_model(everything()))
    onnx.checker.check_model(exported)
    assert not exported.functions
    session(exported)


def test_outputs_that_onnx_can_not_say_get_an_identity() -> None:
    x = Value("x", TensorType(DType.FLOAT32, (2,)))
    graph = Graph("g")
    graph.opset_imports = {"": 18}
    y = Value("y", TensorType(DType.FLOAT32, (2,)))
    graph.inputs = [x]
    graph.nodes = [Node("Neg", [x], [y], name="neg")]
    graph.outputs = [y, y, x]
    exported = to_onnx(graph)
    onnx.checker.check_model(exported)
    results = session(exported).run(None, {"x": np.array([1, 2], np.float32)})
    np.testing.assert_array_equal(results, [[-1, -2], [-1, -2], [1, 2]])


def test_values_that_share_a_name_are_told_apart() -> None:
    a, b, c = (Value("same", TensorType(DType.FLOAT32, (2,))) for _ in range(3))
    graph = Graph("g")
    graph.opset_imports = {"": 18}
    graph.inputs, graph.outputs = [a], [c]
    graph.nodes = [Node("Neg", [a], [b], name="n"), Node("Exp", [b], [c], name="e")]
    result = session(to_onnx(graph)).run(None, {"same": np.zeros(2, np.float32)})
    np.testing.assert_array_equal(result[0], [1, 1])


def test_types_of_one_signature_can_be_written() -> None:
    graph = load_model(relu_chain())
    exported = to_onnx(graph, {graph.inputs[0]: TensorType(DType.FLOAT32, (7, 4))})
    assert load_model(exported).inputs[0].type == TensorType(DType.FLOAT32, (7, 4))


def test_graphs_that_are_no_model_are_refused() -> None:
    graph = load_model(relu_chain())
    graph.opset_imports = {}
    with pytest.raises(UsageError, match="which opset"):
        to_onnx(graph)
    graph = load_model(relu_chain())
    graph.nodes[1].inputs[0] = Value("stranger")
    with pytest.raises(ModelError, match=r"node 'neg' \(Neg\) reads 'stranger', which nothing defines"):
        to_onnx(graph)


# --- files -----------------------------------------------------------------------------------------------------------


def _with_weight() -> Graph:
    graph = load_model(relu_chain())
    weight = Value("w", constant=Tensor.from_numpy(np.arange(4000, dtype=np.float32).reshape(1000, 4)))
    small = Value("s", constant=Tensor.from_numpy(np.ones(4, np.float32)))
    graph.initializers = {"w": weight, "s": small}
    total, y = Value("t"), graph.outputs[0]
    graph.nodes += [Node("Add", [y, weight], [total], name="a")]
    out = Value("out", TensorType(DType.FLOAT32, (1000, 4)))
    graph.nodes += [Node("Add", [total, small], [out], name="b")]
    graph.outputs = [out]
    return graph


@pytest.mark.parametrize("external", [None, True, False])
def test_saving_and_loading(tmp_path: Path, external: bool | None) -> None:
    graph = _with_weight()
    path = tmp_path / "m.onnx"
    save_onnx(graph, path, external_data=external)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"][: 2 if external else 1]
    onnx.checker.check_model(str(path))
    assert graph_difference(graph, load_model(path)) is None
    result = session(path).run(None, {"x": np.zeros((1, 4), np.float32)})[0]
    np.testing.assert_array_equal(result, np.arange(4000).reshape(1000, 4) + 1)


def test_a_model_can_be_saved_over_the_file_it_is_mapped_from(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    save_onnx(_with_weight(), path, external_data=True)
    graph = load_model(path)
    graph.metadata = {"second": "time"}
    save_onnx(graph, path, external_data=True)
    assert graph_difference(graph, load_model(path)) is None


def test_a_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"old")
    graph = _with_weight()
    graph.outputs.append(Value("stranger"))
    for external in (True, False):
        with pytest.raises(ModelError, match="'stranger'"):
            save_onnx(graph, path, external_data=external)
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"] and path.read_bytes() == b"old"
    with pytest.raises(ModelError, match="cannot be written"):
        save_onnx(_with_weight(), tmp_path / "nowhere" / "m.onnx")


def test_large_weights_go_to_the_file_without_a_copy(tmp_path: Path) -> None:
    import tracemalloc

    weight = np.arange(1 << 22, dtype=np.float32).reshape(1 << 11, 1 << 11)
    graph = _with_weight()
    graph.initializers["big"] = Value("big", None, Tensor.from_numpy(weight))
    square = Value("square", TensorType(DType.FLOAT32, weight.shape))
    graph.nodes.append(Node("MatMul", [graph.initializers["big"]] * 2, [square], name="square"))
    graph.outputs.append(square)
    tracemalloc.start()
    save_onnx(graph, tmp_path / "m.onnx")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < weight.nbytes / 4
    onnx.checker.check_model(str(tmp_path / "m.onnx"))
    assert graph_difference(graph, load_model(tmp_path / "m.onnx")) is None


def test_a_model_beyond_two_gigabytes_says_that_it_needs_two_files(tmp_path: Path) -> None:
    graph = _with_weight()
    one_gigabyte = Tensor(DType.UINT8, (1 << 30,), np.zeros(1 << 30, np.uint8))  # pages that nobody touches
    for name in ("a", "b"):
        graph.initializers[name] = Value(name, None, one_gigabyte)
    with pytest.raises(ModelError, match="does not fit into one file: save it with external_data=True"):
        save_onnx(graph, tmp_path / "m.onnx", external_data=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("old", [True, False])
def test_model_and_weights_appear_together_even_if_somebody_interrupts(
    tmp_path: Path, old: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if old:
        save_onnx(_with_weight(), tmp_path / "m.onnx", external_data=True)
    replace = Path.replace

    def interrupted(self: Path, target: Path) -> Path:
        found = replace(self, target)
        if target.suffix == ".data":
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(Path, "replace", interrupted)
    graph = _with_weight()
    graph.metadata = {"second": "time"}
    with pytest.raises(KeyboardInterrupt):
        save_onnx(graph, tmp_path / "m.onnx", external_data=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"]
    assert graph_difference(graph, load_model(tmp_path / "m.onnx")) is None
