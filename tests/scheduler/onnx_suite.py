"""The node cases of the onnx package, run through a session."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.case.test_case import TestCase
from onnx.backend.test.loader import load_model_tests

from mace_core.session import Session

KNOWN_DIFFERENCES = {
    "test_if_opt": "onnx.reference wraps the optional sequence twice",
    "test_bernoulli": "random",
    "test_bernoulli_expanded": "random",
    "test_bernoulli_double": "random",
    "test_bernoulli_double_expanded": "random",
    "test_bernoulli_seed": "random",
    "test_bernoulli_seed_expanded": "random",
    "test_flexattention_score_mod": "nested graphs of an op that is not control flow",
    "test_flexattention_prob_mod": "nested graphs of an op that is not control flow",
    "test_flexattention_causal_mask": "nested graphs of an op that is not control flow",
    "test_flexattention_soft_cap": "nested graphs of an op that is not control flow",
    "test_flexattention_relative_positional": "nested graphs of an op that is not control flow",
}


@functools.cache
def cases() -> dict[str, TestCase]:
    return {case.name: case for case in load_model_tests(kind="node")}


def check_case(case: TestCase, **session_options: Any) -> None:
    """Run every data set of a case and compare with what the package expects."""
    with Session(case.model, **session_options) as session:
        for inputs, outputs in case.data_sets:
            feeds = {v.name: _value(given) for v, given in zip(case.model.graph.input, inputs, strict=False)}
            found = session.run(feeds)
            for spec, expected in zip(case.model.graph.output, outputs, strict=True):
                assert_same(found[spec.name], _value(expected), case.rtol, case.atol)


def assert_same(found: Any, expected: Any, rtol: float, atol: float) -> None:
    if isinstance(expected, list):
        assert isinstance(found, list) and len(found) == len(expected)
        for a, b in zip(found, expected, strict=True):
            assert_same(a, b, rtol, atol)
        return
    if expected is None:
        assert found is None
        return
    expected = np.asarray(expected)
    assert isinstance(found, np.ndarray | np.generic), f"a {type(found).__name__} instead of an array"
    assert found.shape == expected.shape
    if expected.dtype.kind in "OUS":
        assert [_text(item) for item in found.reshape(-1)] == [_text(item) for item in expected.reshape(-1)]
        return
    assert found.dtype == expected.dtype
    if expected.dtype.kind in "fc":
        np.testing.assert_allclose(found, expected, rtol, atol)
    else:
        wide = (found.astype(np.float64), expected.astype(np.float64))
        np.testing.assert_allclose(*wide, rtol, atol)


def _value(given: Any) -> Any:
    if isinstance(given, onnx.TensorProto):
        return numpy_helper.to_array(given)
    if isinstance(given, onnx.SequenceProto):
        return numpy_helper.to_list(given)
    if isinstance(given, onnx.OptionalProto):
        return numpy_helper.to_optional(given)
    return given


def _text(item: Any) -> str:
    return item.decode() if isinstance(item, bytes) else str(item)
