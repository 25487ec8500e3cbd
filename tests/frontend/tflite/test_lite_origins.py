"""Nodes know the operator of the file, and the layer of the author's model, that they stand for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from lite_models import LiteModel

from mace_core.ahead_of_time import build_library
from mace_core.errors import UnsupportedError
from mace_core.frontend.load import load_model
from mace_core.frontend.onnx.export import save_onnx
from mace_core.graph import Origin
from mace_core.graph.graph import Graph
from mace_core.optimizer import default_passes, optimize
from mace_core.session import Session
from mace_core.topology import check_topology


def named() -> bytes:
    """A convolution whose tensor has the names that TensorFlow's converter gives; then tanh in a called subgraph."""
    model = LiteModel()
    main, other = model.graph("main"), model.graph("inner")
    x = main.input("x", (1, 4, 4, 2))
    weights = main.constant("w", np.ones((3, 1, 1, 2), np.float32))
    bias = main.constant("b", np.zeros(3, np.float32))
    made = main.tensor("StatefulPartitionedCall/net/conv1/BiasAdd;net/conv1/Conv2D;w", (1, 4, 4, 3))
    main.op("CONV_2D", [x, weights, bias], [made], "Conv2DOptions", strideH=1, strideW=1, padding=1)
    main.op("CALL", [made], [main.output("y", (1, 4, 4, 3))], "CallOptions", subgraph=1)
    inside = other.input("i", (1, 4, 4, 3))
    other.op("TANH", [inside], [other.output("net/tanh", (1, 4, 4, 3))])
    return model.bytes()


def _origins(graph: Graph) -> dict[str, Origin | None]:
    return {node.op_type: graph.origin_of(node) for node in graph.nodes}


def test_the_names_of_the_authors_model_are_kept() -> None:
    found = _origins(load_model(named()))
    assert found["Conv"] == found["Transpose"] == Origin("net/conv1/BiasAdd", "CONV_2D, operator 0")
    assert found["Tanh"] == Origin("net/tanh", "TANH, operator 0 of subgraph 1")
    assert str(found["Conv"]) == "layer 'net/conv1/BiasAdd' (CONV_2D, operator 0)"


def test_they_survive_the_optimizer_and_an_export(tmp_path: Path) -> None:
    graph = load_model(named())
    optimize(graph, default_passes(None))
    save_onnx(graph, tmp_path / "named.onnx")
    for found in (graph, load_model(tmp_path / "named.onnx")):
        assert _origins(found)["Conv"] == Origin("net/conv1/BiasAdd", "CONV_2D, operator 0")


def test_a_check_names_the_layer_that_a_device_refuses() -> None:
    report = check_topology(named(), "hexagon:v68")  # which computes in integers alone
    assert "layer 'net/conv1/BiasAdd' (CONV_2D, operator 0)" in {finding.layer for finding in report.findings}


def test_an_explanation_names_the_layers() -> None:
    with Session(named(), devices=["cpu"]) as session:
        found = session.explain()
    layers = {entry.op: entry.layer for entry in found.nodes}
    assert layers["Conv"] == "layer 'net/conv1/BiasAdd' (CONV_2D, operator 0)"
    assert layers["Tanh"] == "layer 'net/tanh' (TANH, operator 0 of subgraph 1)"
    assert "(Conv), layer 'net/conv1/BiasAdd' (CONV_2D, operator 0): " in str(found)


def test_a_library_that_cannot_be_built_names_the_layer(tmp_path: Path) -> None:
    model = LiteModel()
    main = model.graph("main")
    x = main.input("x", (4,))
    main.op("WHERE", [x], [main.output("net/found", (0, 1), "int64", signature=(-1, 1))])
    with pytest.raises(UnsupportedError, match=r"layer 'net/found' \(WHERE, operator 0\)"):
        build_library(model.bytes(), tmp_path / "out")
