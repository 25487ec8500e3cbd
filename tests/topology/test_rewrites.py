"""Every rewrite computes what the node does, as onnxruntime judges both."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from topology_cases import CASES, Case

from mace_core.frontend.load import load_model
from mace_core.frontend.onnx.export import to_onnx
from mace_core.graph import Graph
from mace_core.operators import resolve
from mace_core.provider.registry import default_registry
from mace_core.scheduler.planning.stages import cut_stage
from mace_core.scheduler.running.constants import HostConstants
from mace_core.topology.check import _view
from mace_core.topology.rule import rewritten, rules
from mace_core.topology.verify import TOLERANCE

RULES = {each.name: each for each in rules()}


def by_onnxruntime(model: bytes, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])
    return list(session.run(None, feeds))


def rewritten_model(case: Case) -> bytes:
    """The case with the rewrite in the place of the node."""
    graph = load_model(case.model())
    types = {value: value.type for value in graph.inputs if value.type is not None}
    stage = cut_stage(graph, resolve(graph, types))
    (node,) = graph.nodes
    host = HostConstants(default_registry())
    try:
        body = rewritten(RULES[case.rule], _view(stage, [node]), node, host)
    finally:
        host.close()
    assert body is not None, "the rule is not for this node"
    changed = Graph("changed")
    changed.inputs, changed.outputs, changed.nodes = graph.inputs, graph.outputs, body.nodes
    changed.opset_imports = graph.opset_imports
    for each in body.nodes:
        for value in each.outputs:
            if value is not None:
                value.producer = each
        for value in each.inputs:
            if value is not None and value.constant is not None:
                changed.initializers[value.name] = value
    return bytes(to_onnx(changed).SerializeToString())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_rewrite_computes_the_same(case: Case) -> None:
    expected = by_onnxruntime(case.model().SerializeToString(), case.feeds)
    found = by_onnxruntime(rewritten_model(case), case.feeds)
    for one, other in zip(expected, found, strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        if one.dtype.kind == "f":
            if RULES[case.rule].is_exact and case.op not in ("Conv", "ConvTranspose"):  # whose kernels sum differently
                np.testing.assert_array_equal(one, other)
            scale = max(float(np.abs(one[np.isfinite(one)]).max(initial=0)), 1e-6)
            np.testing.assert_allclose(other, one, rtol=0, atol=TOLERANCE * scale)
        else:
            np.testing.assert_array_equal(one, other)


def test_every_rule_has_a_case() -> None:
    assert {case.rule for case in CASES} == set(RULES)
