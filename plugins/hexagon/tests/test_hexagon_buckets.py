"""Sizes that change: contexts are made for buckets alone, on the emulated HTP."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from mace_hexagon.backend import HexagonBackend
from mace_hexagon.provider import HexagonProvider
from onnx import TensorProto, helper, numpy_helper

from mace_core.errors import UsageError
from mace_core.graph import GraphView
from mace_core.provider import CompiledSubgraph, Device
from mace_core.session import Session

TOLERANCE = 2e-3
"""Of sums of eight products in half precision."""


def network() -> onnx.ModelProto:
    weight = np.random.default_rng(0).uniform(-1, 1, (8, 6)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="product"),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Softmax", ["b"], ["y"], name="softmax", axis=-1),
    ]
    feeds = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8])]
    results = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 6])]
    graph = helper.make_graph(nodes, "rows", feeds, results, [numpy_helper.from_array(weight, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize(("options", "compiles"), [({}, 5), ({"largest_bucket": 16}, 2)])
def test_sizes_of_one_bucket_share_a_context(
    device: Device, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: dict[str, object], compiles: int
) -> None:
    monkeypatch.setenv("MACE_CACHE_DIR", str(tmp_path))
    calls: list[int] = []
    honest = HexagonBackend.compile

    def compile_(self: HexagonBackend, views: list[GraphView]) -> list[CompiledSubgraph]:
        calls.append(len(views))
        return honest(self, views)

    monkeypatch.setattr(HexagonBackend, "compile", compile_)
    named = {"devices": [device.qualified_name], "options": {"hexagon": options}, "strict": True}
    with Session(network(), **named) as session, Session(network(), devices=["cpu"]) as exact:
        for count in (5, 7, 3, 8, 4, 5):
            x = np.random.default_rng(count).uniform(-1, 1, (count, 8)).astype(np.float32)
            found, wanted = session.run({"x": x})["y"], exact.run({"x": x})["y"]
            np.testing.assert_allclose(found, wanted, rtol=0, atol=TOLERANCE)
        told = str(session.explain())
    assert len(calls) == compiles
    assert ("padded along n" in told) is bool(options)


@pytest.mark.parametrize("value", [-1, True, 1.5, "64", None])
def test_a_bucket_is_a_size(device: Device, value: object) -> None:
    with pytest.raises(UsageError, match="'largest_bucket' takes a size"):
        HexagonProvider().open(device, {"largest_bucket": value})
