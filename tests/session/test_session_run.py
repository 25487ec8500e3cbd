"""Running: inputs and outputs as promised, checks that say what was expected, plans per signature."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from scheduler_models import INT64, chain, constant, model, op, tensor
from scheduler_stand_ins import make_provider, registry_of

import mace_core as mace
from mace_core.errors import CancelledError, InputError, UsageError
from mace_core.provider import CancelFlag
from mace_core.session import Session
from mace_core.tensor import DType, TensorSpec

X = np.array([[-2.0, -1.0, 1.0, 3.0]], np.float32)


def reference(built: onnx.ModelProto, **options: Any) -> Session:
    return Session(built, devices=["reference"], registry=registry_of(), **options)


def two_inputs() -> onnx.ModelProto:
    nodes = [op("Add", ["a", "b"], ["sum"]), op("Neg", ["b"], ["minus"])]
    inputs = [tensor("a", ["n", 4]), tensor("b", ["n", 4])]
    built = model(nodes, inputs, [tensor("sum", ["n", 4]), tensor("minus", ["n", 4])])
    helper.set_model_props(built, {"author": "tests"})
    return built


def test_inputs_outputs_and_metadata_are_those_of_the_model() -> None:
    with reference(two_inputs()) as session:
        assert [(s.name, s.dtype, s.shape) for s in session.inputs] == [
            ("a", DType.FLOAT32, ("n", 4)),
            ("b", DType.FLOAT32, ("n", 4)),
        ]
        assert all(isinstance(spec, TensorSpec) for spec in session.outputs)
        assert str(session.outputs[0]) == "sum: float32[n, 4]"
        assert session.metadata["author"] == "tests"


def test_run_returns_every_output_by_name() -> None:
    with reference(two_inputs()) as session:
        outputs = session.run({"a": X, "b": X})
        assert list(outputs) == ["sum", "minus"]
        np.testing.assert_array_equal(outputs["sum"], 2 * X)


def test_a_subset_of_outputs_computes_only_what_it_needs() -> None:
    far = make_provider("far", faults=[], claims={"Neg"})
    with Session(two_inputs(), devices=["far"], registry=registry_of(far)) as session:
        outputs = session.run({"a": X, "b": X}, outputs=["sum"])
        assert list(outputs) == ["sum"]
        assert sum(backend.runs for backend in far.opened) == 0
        session.run({"a": X, "b": X}, outputs=["minus", "sum"])
        assert sum(backend.runs for backend in far.opened) == 1


def test_an_unknown_output_is_named_with_those_there_are() -> None:
    with reference(two_inputs()) as session, pytest.raises(UsageError, match=r"no output 'total'; .* 'sum', 'minus'"):
        session.run({"a": X, "b": X}, outputs=["total"])


@pytest.mark.parametrize("form", ["bytes", "proto", "path", "graph"])
def test_a_model_comes_as_bytes_proto_path_or_graph(form: str, tmp_path: Any) -> None:
    built = chain("Neg", "Relu")
    onnx.save(built, tmp_path / "m.onnx")
    from mace_core.frontend.load import load_model

    given = {
        "bytes": built.SerializeToString(),
        "proto": built,
        "path": tmp_path / "m.onnx",
        "graph": load_model(built),
    }[form]
    with Session(given, devices=["reference"], registry=registry_of()) as session:
        np.testing.assert_array_equal(session.run({"x": X})["y"], np.maximum(-X, 0))


def test_the_package_offers_session() -> None:
    assert mace.Session is Session


# --- what may be fed ------------------------------------------------------------


class OnlyDlpack:
    """A tensor of some other library."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._array.__dlpack_device__()


@pytest.mark.parametrize(
    "feed",
    [
        X,
        np.asfortranarray(np.repeat(X, 3, 0))[1:2],
        np.repeat(X, 2, 1)[:, ::2],
        X.astype(">f4"),
        OnlyDlpack(X.copy()),
        [[-2.0, -1, 1, 3]],
        np.frombuffer(b"\0" + X.tobytes(), np.uint8)[1:].view(np.float32).reshape(1, 4),
    ],
    ids=["array", "fortran", "strided", "big endian", "dlpack", "list", "misaligned, read-only"],
)
def test_any_layout_and_any_tensor_library_may_be_fed(feed: Any) -> None:
    with reference(chain("Neg")) as session:
        for _ in range(2):
            np.testing.assert_array_equal(session.run({"x": feed})["y"], -X)


@pytest.mark.parametrize(
    ("feeds", "words"),
    [
        ({}, ["input 'a' (float32[n, 4]) is missing", "input 'b'"]),
        ({"a": X, "b": X, "c": X}, ["there is no input 'c'"]),
        ({"a": X, "B": X}, ["input 'b'", "there is no input 'B' (the inputs are 'a', 'b')"]),
        ({"a": X, "b": X.astype(np.float64)}, ["input 'b' has element type float64; expected float32"]),
        ({"a": X, "b": X[0]}, ["input 'b' has the wrong rank: expected [n, 4], got [4]"]),
        ({"a": X, "b": X[:, :3]}, ["input 'b' has the wrong size in axis 1: expected [n, 4], got [1, 3]"]),
        ({"a": X, "b": np.repeat(X, 2, 0)}, ["dimension 'n' is 1 in axis 0 of 'a' but 2 in axis 0 of 'b'"]),
        ({"a": X, "b": "text"}, ["input 'b' is a str (text); expected float32"]),
        ({"a": X, "b": None}, ["input 'b'"]),
        ([X, X], ["a mapping from input name to value, not a list of ndarray: session.run({'a': array, 'b': array})"]),
    ],
    ids=["missing", "unexpected", "misspelt", "dtype", "rank", "size", "symbol", "string", "none", "list"],
)
def test_feeds_that_do_not_fit_are_named_with_what_was_expected(feeds: Any, words: list[str]) -> None:
    with reference(two_inputs()) as session:
        session.run({"a": X, "b": X})
        with pytest.raises(InputError) as caught:
            session.run(feeds)
        for word in words:
            assert word in str(caught.value)


def test_all_faults_of_the_feeds_are_told_at_once() -> None:
    with reference(two_inputs()) as session, pytest.raises(InputError) as caught:
        session.run({"a": X.astype(np.int32), "z": X})
    assert all(word in str(caught.value) for word in ("'a' has element type int32", "'b'", "no input 'z'"))


def test_plain_numbers_are_taken_where_their_value_fits() -> None:
    built = model([op("Identity", ["i"], ["y"])], [tensor("i", [], INT64)], [tensor("y", [], INT64)])
    with reference(built) as session:
        assert session.run({"i": 7})["y"] == 7
        for wrong in (7.5, True, 2**70):
            with pytest.raises(InputError):
                session.run({"i": wrong})


def test_a_numpy_scalar_counts_as_a_tensor_of_rank_zero() -> None:
    built = model([op("Neg", ["i"], ["y"])], [tensor("i", [])], [tensor("y", [])])
    with reference(built) as session:
        for _ in range(3):
            assert session.run({"i": np.float32(3)})["y"] == -3


# --- what comes out ------------------------------------------------------------


def test_outputs_that_are_inputs_constants_or_repeated_are_the_callers_own() -> None:
    nodes = [op("Neg", ["x"], ["y"])]
    weights = np.arange(4, dtype=np.float32)
    outputs = [tensor("x", [1, 4]), tensor("w", [4]), tensor("y", [1, 4])]
    built = model(nodes, [tensor("x", [1, 4])], outputs, [constant("w", weights)])
    with reference(built, optimize=False) as session:
        fed = X.copy()
        for _ in range(2):
            found = session.run({"x": fed})
            np.testing.assert_array_equal(found["w"], weights)
            np.testing.assert_array_equal(found["x"], X)
            for array in found.values():
                array[...] = 99
        np.testing.assert_array_equal(fed, X)


def test_a_graph_without_nodes_runs() -> None:
    built = model([], [tensor("x", ["n"])], [tensor("x", ["n"])])
    with reference(built) as session:
        np.testing.assert_array_equal(session.run({"x": X[0]})["x"], X[0])


def test_a_graph_without_inputs_runs() -> None:
    built = model([op("Neg", ["w"], ["y"])], [], [tensor("y", [1, 4])], [constant("w", X)])
    for optimize in (False, True):
        with reference(built, optimize=optimize) as session:
            np.testing.assert_array_equal(session.run({})["y"], -X)


@pytest.mark.parametrize("split", [set(), {"Neg"}, {"Abs"}, {"Neg", "Abs"}])
def test_tensors_of_size_zero_run(split: set[str]) -> None:
    far = make_provider("far", claims=split)
    with Session(chain("Neg", "Abs"), devices=["far"], registry=registry_of(far)) as session:
        assert session.run({"x": np.zeros((0, 4), np.float32)})["y"].shape == (0, 4)


def test_outputs_of_separate_runs_do_not_share_memory() -> None:
    with reference(chain("Neg")) as session:
        first = session.run({"x": X})["y"]
        second = session.run({"x": X + 1})["y"]
        np.testing.assert_array_equal(first, -X)
        assert not np.may_share_memory(first, second)


def test_four_bit_tensors_are_fed_and_returned_unpacked() -> None:
    import ml_dtypes

    built = model(
        [op("Identity", ["x"], ["y"])],
        [tensor("x", ["n"], TensorProto.INT4)],
        [tensor("y", ["n"], TensorProto.INT4)],
        opset=21,
    )
    values = np.array([-8, 7, 3], ml_dtypes.int4)
    with reference(built, optimize=False) as session:
        for _ in range(2):
            found = session.run({"x": values})["y"]
            assert found.dtype == values.dtype
            np.testing.assert_array_equal(found.astype(int), values.astype(int))


# --- plans per signature ------------------------------------------------------------


def test_new_shapes_simply_work_and_are_planned_once() -> None:
    far = make_provider("far")
    with Session(chain("Neg", "Abs"), devices=["far"], registry=registry_of(far)) as session:
        for rows in (1, 2, 3, 2, 1):
            x = np.full((rows, 4), -2, np.float32)
            np.testing.assert_array_equal(session.run({"x": x})["y"], np.abs(x))
        assert far.opened[-1].compile_calls == 3


def test_the_least_recently_used_signature_is_dropped() -> None:
    far = make_provider("far")
    with Session(chain("Neg"), devices=["far"], registry=registry_of(far), max_signatures=2) as session:
        backend = far.opened[-1] if far.opened else None
        for rows in (1, 2, 1, 3):  # 2 is the oldest when 3 comes
            session.run({"x": np.ones((rows, 4), np.float32)})
        backend = far.opened[-1]
        assert (backend.compile_calls, backend.compiled_alive, backend.executions) == (3, 2, 2)
        session.run({"x": np.ones((1, 4), np.float32)})
        assert backend.compile_calls == 3
        session.run({"x": np.ones((2, 4), np.float32)})
        assert backend.compile_calls == 4


def test_fixed_shapes_are_planned_when_the_session_is_made() -> None:
    far = make_provider("far")
    with Session(chain("Neg", shape=(1, 4)), devices=["far"], registry=registry_of(far)):
        assert far.opened[-1].compile_calls == 1


def test_prepare_plans_ahead() -> None:
    far = make_provider("far")
    with Session(chain("Neg"), devices=["far"], registry=registry_of(far)) as session:
        session.prepare({"x": (5, 4)})
        session.run({"x": np.ones((5, 4), np.float32)})
        assert far.opened[-1].compile_calls == 1
        with pytest.raises(InputError, match=r"\[n, 4\]; \[5, 3\] does not fit"):
            session.prepare({"x": (5, 3)})


# --- profile, cancel, close ------------------------------------------------------------


def test_a_profile_has_a_span_per_node_with_its_device() -> None:
    with reference(chain("Neg", "Abs")) as session:
        profile = session.profile({"x": X})
        assert [(span.name, span.device) for span in profile.spans] == [
            ("Neg_t0", "reference:0"),
            ("Abs_y", "reference:0"),
        ]
        assert all(profile.start_ns <= s.start_ns <= s.end_ns <= profile.end_ns for s in profile.spans)
        np.testing.assert_array_equal(profile.outputs["y"], np.abs(X))


@pytest.mark.parametrize(
    ("ops", "sources"), [(("Neg",), ["Neg_y"]), (("Neg", "Exp", "Abs"), ["Neg_t0", "Exp_t1", "Abs_y"])]
)
@pytest.mark.parametrize("has_queue", [False, True])
def test_a_provider_that_reports_nothing_has_one_span_per_partition(
    ops: tuple[str, ...], sources: list[str], has_queue: bool
) -> None:
    far = make_provider("far", claims={"Neg", "Abs"}, reports_spans=False, has_queue=has_queue)
    with Session(chain(*ops), devices=["far"], registry=registry_of(far)) as session:
        profile = session.profile({"x": X})
    spans = [(span.device, span.source) for span in profile.spans]
    assert [device for device, _ in spans] == ["far:0", "reference:0", "far:0"][: len(ops)]
    assert [source for _, source in spans] == [(name,) for name in sources]
    assert all(span.duration_ns > 0 for span in profile.spans)


def test_a_set_cancel_flag_stops_the_run_and_the_session_goes_on() -> None:
    with reference(chain("Neg", "Abs")) as session:
        flag = CancelFlag()
        flag.set()
        with pytest.raises(CancelledError, match="before node 'Neg_t0'"):
            session.run({"x": X}, cancel=flag)
        np.testing.assert_array_equal(session.run({"x": X})["y"], np.abs(X))


def test_an_interrupt_leaves_the_session_usable() -> None:
    far = make_provider("far")
    with Session(chain("Neg"), devices=["far"], registry=registry_of(far)) as session:
        session.run({"x": X})
        far.faults.append(KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            session.run({"x": X})
        np.testing.assert_array_equal(session.run({"x": X})["y"], -X)


def test_a_closed_session_says_so() -> None:
    session = reference(chain("Neg"))
    session.close()
    session.close()
    for use in (lambda: session.run({"x": X}), session.explain, lambda: session.prepare({"x": (1, 4)})):
        with pytest.raises(UsageError, match="closed"):
            use()


def test_nothing_is_printed_and_fallbacks_are_logged(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    far = make_provider("far", claims={"Neg"}, compile_fails={"Neg"})
    with caplog.at_level(logging.WARNING), Session(chain("Neg"), devices=["far"], registry=registry_of(far)) as session:
        session.run({"x": X})
    assert capsys.readouterr() == ("", "")
    assert any("compile failed" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("has_constant", [False, True])
def test_what_is_handed_on_belongs_to_the_caller_in_every_run(has_constant: bool) -> None:
    """Inputs and constants among the results are copies, also once the plan is known."""
    outputs = [tensor("y", ["n", 4]), tensor("z", ["n", 4]), *([tensor("w", [2])] if has_constant else [])]
    inputs = [tensor("x", ["n", 4]), tensor("z", ["n", 4])]
    built = model([op("Relu", ["x"], ["y"])], inputs, outputs, [constant("w", np.float32([5, 6]))])
    z = np.ones((1, 4), np.float32)
    with Session(built, devices=["cpu"], cache=False) as session:
        for _ in range(3):
            found = session.run({"x": X, "z": z})
            assert [found[name].tolist() for name in found if name == "w"] == [[5, 6]] * has_constant
            for name in found:
                found[name][:] = 7
            assert z.max() == 1
