"""What the kit expects of its forms is what onnxruntime computes, form by form."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from mace_core.frontend.onnx.export import to_onnx
from mace_core.testing.cases import Case, operator_cases
from mace_core.testing.expected import expected
from mace_core.testing.forms import operator_forms
from mace_core.testing.forms.covering import covering

SHARES = {2: 4e-3, 4: 1e-5, 8: 1e-6}
"""Bytes of a float -> difference allowed, as a share of the largest magnitude."""

IMPRECISE = 1e-3
"""The same, where onnxruntime takes the mean of large numbers in float32."""

FEWEST_COMPARED = 2400

EVERY = 4
"""Of all forms, one in so many is compared in the quick tier."""


def onnxruntime_outputs(case: Case) -> list[np.ndarray] | None:
    """What onnxruntime computes, unoptimized; None where it has no kernel."""
    proto = to_onnx(case.graph())
    proto.ir_version = min(proto.ir_version, 10)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        if "NOT_IMPLEMENTED" in str(error):
            return None
        raise
    return session.run(None, case.feeds())


def all_forms() -> list[Case]:
    return [*operator_cases(), *(case for cases in operator_forms().values() for case in cases)]


@pytest.mark.parametrize("every", [EVERY, pytest.param(1, marks=pytest.mark.full)])
def test_what_the_kit_expects_is_what_onnxruntime_computes(every: int) -> None:
    compared, wrong = 0, []
    for case in all_forms()[::every]:
        found = onnxruntime_outputs(case)
        if found is None:
            continue
        compared += 1
        for array, right in zip(expected(case).values(), found, strict=True):
            if (array.dtype, array.shape) != (right.dtype, right.shape):
                wrong.append(f"{case.name}: {array.dtype}{array.shape}, onnxruntime {right.dtype}{right.shape}")
            elif array.dtype.kind != "f":
                if not np.array_equal(array, right):
                    wrong.append(case.name)
            else:
                scale = float(np.abs(array).max(initial=1e-6))
                share = IMPRECISE if case.needs_precision else SHARES[array.dtype.itemsize]
                if not np.allclose(array.astype(float), right.astype(float), rtol=0, atol=share * scale):
                    wrong.append(case.name)
    assert not wrong, "\n".join(wrong)
    assert compared >= FEWEST_COMPARED // every


def test_nothing_is_expected_that_half_precision_cannot_hold() -> None:
    """Devices that compute in float16 are put to the same forms."""
    for case in all_forms():
        for array in expected(case).values():
            if array.dtype.kind == "f":
                assert np.isfinite(array).all(), case.name
                assert np.abs(array.astype(float)).max(initial=0) < np.finfo(np.float16).max, case.name


@pytest.mark.parametrize(
    "op_type", ["Conv", "MaxPool", "AveragePool", "ConvTranspose", "Gemm", "Softmax", "Pad", "Clip"]
)
def test_every_attribute_of_an_operator_is_somewhere_given(op_type: str) -> None:
    import onnx

    schema = onnx.defs.get_schema(op_type, 21)
    given = {
        name
        for case in (*operator_forms()[op_type], *operator_cases())
        if case.op_type == op_type
        for name in case.attributes
    }
    assert set(schema.attributes) - given <= {"output_shape", "kernel_shape"}


def test_every_two_choices_meet() -> None:
    choices = {"a": (0, 1, 2), "b": (0, 1), "c": (0, 1, 2, 3), "d": (0, 1)}
    made = list(covering(choices))
    for one in choices:
        for other in choices:
            if one != other:
                assert {(row[one], row[other]) for row in made} == {
                    (i, k) for i in choices[one] for k in choices[other]
                }
    assert len(made) < 3 * 2 * 4 * 2
    assert all(
        row["d"] == 0 or row["c"] == 0 for row in covering(choices, allowed=lambda row: not (row["d"] and row["c"]))
    )
