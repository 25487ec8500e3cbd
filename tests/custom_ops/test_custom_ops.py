"""Operators of the application's own: schema, shapes, Python and compiled kernels, placement, errors, publication."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from custom_models import DOMAIN, custom, model

import mace_core as mace
from mace_core.custom_ops import find_custom_op, like_first_input, registered_ops
from mace_core.errors import MaceError, ModelError, PluginError, ProviderError, StrictPlacementError, UsageError
from mace_core.tensor import DType, TensorType

Floats = npt.NDArray[np.float32]
X = np.linspace(-2, 2, 6, dtype=np.float32).reshape(2, 3)
relu = onnx.helper.make_node("Relu", ["x"], ["r"], name="relu")


def scaled_tanh() -> None:
    @mace.custom_op(DOMAIN, "ScaledTanh", shape=like_first_input)
    def scaled_tanh(x: Floats, *, scale: float = 1.0) -> Any:
        return (scale * np.tanh(x)).astype(x.dtype)


def test_an_operator_runs_between_standard_ones() -> None:
    scaled_tanh()
    node = custom("ScaledTanh", ["r"], ["t"], scale=2.0)
    with mace.Session(model(relu, node, onnx.helper.make_node("Neg", ["t"], ["y"]))) as session:
        np.testing.assert_allclose(session.run({"x": X})["y"], -2 * np.tanh(np.maximum(X, 0)), rtol=1e-6)
        placed = session.explain()
    assert placed.nodes_per_device["custom:0"] == 1
    assert "custom:0" not in placed.fallbacks
    assert len(placed.partitions) == 3


def test_equal_nodes_are_computed_each_for_a_function_may_give_other_results() -> None:
    calls = []

    @mace.custom_op(DOMAIN, "Draw", shape=like_first_input)
    def draw(x: Floats) -> Any:
        calls.append(x)
        return x + np.float32(len(calls))

    nodes = [
        custom("Draw", ["x"], ["a"]),
        custom("Draw", ["x"], ["b"]),
        onnx.helper.make_node("Sub", ["a", "b"], ["y"]),
    ]
    with mace.Session(model(*nodes)) as session:
        np.testing.assert_array_equal(np.abs(session.run({"x": np.zeros_like(X)})["y"]), np.ones_like(X))
    assert len(calls) == 2


def test_an_operator_works_with_open_dimensions_and_in_a_nested_graph() -> None:
    scaled_tanh()
    body = onnx.helper.make_graph(
        [custom("ScaledTanh", ["x"], ["z"])], "then", [], [onnx.helper.make_tensor_value_info("z", 1, None)]
    )
    condition = onnx.helper.make_node("Constant", [], ["c"], value=onnx.numpy_helper.from_array(np.array([True])))
    size = onnx.helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0)
    positive = onnx.helper.make_node("Greater", ["s", "zero"], ["p"])
    zero = onnx.helper.make_node("Constant", [], ["zero"], value_float=0.0)
    other = onnx.helper.make_graph(
        [onnx.helper.make_node("Neg", ["x"], ["n"])], "else", [], [onnx.helper.make_tensor_value_info("n", 1, None)]
    )
    choose = onnx.helper.make_node("If", ["p"], ["y"], then_branch=body, else_branch=other)
    with mace.Session(model(condition, size, zero, positive, choose, shape=("n", 3))) as session:
        for rows in (1, 4):
            x = np.full((rows, 3), 0.5, np.float32)
            np.testing.assert_allclose(session.run({"x": x})["y"], np.tanh(x), rtol=1e-6)
            np.testing.assert_allclose(session.run({"x": -x})["y"], x, rtol=1e-6)


def test_without_a_shape_function_the_rest_is_planned_when_it_has_run() -> None:
    @mace.custom_op(DOMAIN, "Keep")
    def keep(x: Floats, *, above: float) -> Any:
        return x[x > above]

    with mace.Session(model(custom("Keep", ["x"], ["k"], above=0.1), onnx.helper.make_node("Neg", ["k"], ["y"]))) as s:
        for x in (X, X * 0.01, X + 5):
            np.testing.assert_array_equal(s.run({"x": x})["y"], -x[x > 0.1])


def test_optional_and_variadic_inputs_several_outputs_and_every_kind_of_attribute() -> None:
    seen: dict[str, Any] = {}

    def shapes(a: TensorType, b: TensorType | None, *more: TensorType, **attributes: object) -> list[TensorType]:
        return [a, TensorType(DType.INT64, (1 + len(more),))]

    @mace.custom_op(DOMAIN, "Many", outputs=("sum", "count"), shape=shapes)
    def many(
        a: Floats,
        b: Floats | None = None,
        *more: Floats,
        f: float = 0.5,
        i: int = 1,
        flag: bool = False,
        s: str = "a",
        fs: tuple[float, ...] = (),
        ints: tuple[int, ...] = (1,),
        names: tuple[str, ...] = (),
        plain: int = 3,
    ) -> Any:
        seen.update(f=f, i=i, flag=flag, s=s, fs=fs, ints=ints, names=names, plain=plain, b=b)
        return a + sum(more) if more else a, np.array([len(more)] * (1 + len(more)))

    node = custom("Many", ["x", "", "x", "x"], ["y", "count"], f=2, i=7, flag=1, s="z", fs=[1.5], ints=[1, 2])
    node.attribute.append(onnx.helper.make_attribute("names", ["p", "q"]))
    made = model(node, outputs=("y", "count"))
    made.graph.output[1].type.tensor_type.elem_type = onnx.TensorProto.INT64
    with mace.Session(made) as session:
        found = session.run({"x": X})
    np.testing.assert_array_equal(found["y"], 3 * X)
    np.testing.assert_array_equal(found["count"], [2, 2, 2])
    wanted = {"f": 2.0, "i": 7, "flag": 1, "s": "z", "fs": (1.5,), "ints": (1, 2), "names": ("p", "q"), "plain": 3}
    assert seen == {**wanted, "b": None}
    with mace.Session(model(custom("Many", ["x"], ["y"]))) as session:
        np.testing.assert_array_equal(session.run({"x": X})["y"], X)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.uint8])
def test_a_compiled_operator_fills_its_outputs_in_every_dtype(dtype: npt.DTypeLike) -> None:
    @mace.custom_op(DOMAIN, "Clamp", outputs=("y",), shape=like_first_input, compiled=True)
    def clamp(x: Any, y: Any, low: float = 0.0, high: float = 1.0) -> None:
        for i in range(x.size):
            y.flat[i] = min(max(x.flat[i], low), high)

    to = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    cast = onnx.helper.make_node("Cast", ["x"], ["c"], to=to)
    made = model(cast, custom("Clamp", ["c"], ["y"], high=1.5))
    made.graph.output[0].type.tensor_type.elem_type = to
    with mace.Session(made) as session:
        found = session.run({"x": np.abs(X)})["y"]
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, np.clip(np.abs(X).astype(dtype), 0, 1.5).astype(dtype))


def test_the_kind_of_an_attribute_may_be_told_by_its_default_alone() -> None:
    mace.custom_op(DOMAIN, "Power", shape=like_first_input)(lambda x, *, n=2: x**n)
    op = find_custom_op(DOMAIN, "Power")
    assert op is not None
    assert op.attributes["n"].kind.name == "INT"


def test_an_operator_answers_in_text() -> None:
    @mace.custom_op(DOMAIN, "Names", shape=lambda x, **_: TensorType(DType.STRING, x.shape[:1]))
    def names(x: Floats, *, words: tuple[str, ...]) -> Any:
        return np.array([words[int(k)] for k in x.argmax(axis=1)], dtype=object)

    made = model(custom("Names", ["x"], ["y"], words=["a", "b", "c"]))
    made.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.STRING
    with mace.Session(made) as session:
        assert session.run({"x": X})["y"].tolist() == ["c", "c"]


def test_registering_again_changes_new_sessions_and_leaves_old_ones() -> None:
    scaled_tanh()
    node = custom("ScaledTanh", ["x"], ["y"])
    with mace.Session(model(node)) as old:

        @mace.custom_op(DOMAIN, "ScaledTanh", shape=like_first_input)
        def zero(x: Floats, *, scale: float = 1.0) -> Any:
            return np.zeros_like(x)

        with mace.Session(model(node)) as new:
            assert not new.run({"x": X})["y"].any()
        np.testing.assert_allclose(old.run({"x": X})["y"], np.tanh(X), rtol=1e-6)
    assert [op.qualified_name for op in registered_ops()] == ["com.example.ScaledTanh"]


def test_a_shape_function_that_changed_is_asked_again_in_a_cached_model(tmp_path: Path) -> None:
    """Resolved shapes of a model with custom operators are not kept on disk: they depend on the application."""
    path = tmp_path / "model.onnx"
    onnx.save(model(custom("Repeat", ["x"], ["y"])), path)
    for times in (2, 3):

        def wider(x: TensorType, times: int = times) -> TensorType:
            return TensorType(x.dtype, (*x.concrete_shape[:1], times * x.concrete_shape[1]))

        @mace.custom_op(DOMAIN, "Repeat", shape=wider)
        def repeat(x: Floats) -> Any:
            return np.tile(x, (1, times))  # noqa: B023 - called within this round

        with mace.Session(path) as session:
            assert session.run({"x": X})["y"].shape == (2, 3 * times)


def test_strict_placement_wants_the_device_named() -> None:
    scaled_tanh()
    made = model(relu, custom("ScaledTanh", ["r"], ["y"]))
    with pytest.raises(StrictPlacementError, match=r"scaledtanh.*com\.example\.ScaledTanh"):
        mace.Session(made, devices=["cpu"], strict=True)
    with mace.Session(made, devices=["cpu", "custom"], strict=True) as session:
        np.testing.assert_allclose(session.run({"x": X})["y"], np.tanh(np.maximum(X, 0)), rtol=1e-6)


WRONG_NODES = [
    ({"inputs": []}, r"lacks the input 'x'"),
    ({"inputs": ["x", "x"]}, r"2 inputs; the operator takes at most 1"),
    ({"attributes": {"scale": "a"}}, r"'scale' is STRING; the operator takes FLOAT"),
    ({"attributes": {"size": 1.0}}, r"attribute 'size' that the operator does not know \(it knows: scale\)"),
    ({"outputs": ["y", "z"]}, r"2 outputs; the operator gives 1"),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG_NODES)
def test_a_node_that_does_not_fit_is_refused_with_its_name(wrong: dict[str, Any], message: str) -> None:
    scaled_tanh()
    node = custom("ScaledTanh", wrong.get("inputs", ["x"]), wrong.get("outputs", ["y"]), **wrong.get("attributes", {}))
    with pytest.raises(ModelError, match=message) as caught:
        mace.Session(model(node))
    assert "'scaledtanh'" in str(caught.value)


def test_a_required_attribute_that_is_missing_is_named() -> None:
    @mace.custom_op(DOMAIN, "Keep")
    def keep(x: Floats, *, above: float) -> Any:
        return x[x > above]

    with pytest.raises(ModelError, match=r"'keep'.*lacks the attribute 'above'"):
        mace.Session(model(custom("Keep", ["x"], ["y"])))


def test_what_the_function_raises_and_wrong_results_name_the_node() -> None:
    def result(x: Floats) -> Any:
        return results[0]

    mace.custom_op(DOMAIN, "Odd", shape=like_first_input)(result)
    results: list[Any] = [X]
    with mace.Session(model(custom("Odd", ["x"], ["y"]))) as session:
        for wrong, message in (
            (X.astype(np.float64), "float64 as 'output', where its shape function says float32"),
            (X[:1], r"shape \[1, 3\] as 'output'"),
            (None, "object"),
        ):
            results[0] = wrong
            with pytest.raises(ProviderError, match=f"node 'odd'.*{message}"):
                session.run({"x": X})
        results[0] = X
        np.testing.assert_array_equal(session.run({"x": X})["y"], X)

    def fails(x: Floats) -> Any:
        raise RuntimeError("the table is empty")

    mace.custom_op(DOMAIN, "Fails", shape=like_first_input)(fails)
    with (
        mace.Session(model(custom("Fails", ["x"], ["y"]))) as session,
        pytest.raises(
            ProviderError, match=r"node 'fails' \(com.example.Fails\) failed on custom:0.*the table is empty"
        ),
    ):
        session.run({"x": X})


def test_a_shape_function_that_fails_is_told_as_such() -> None:
    mace.custom_op(DOMAIN, "Odd", shape=lambda x: 1 / 0)(lambda x: x)  # type: ignore[arg-type, return-value]
    with pytest.raises(ModelError, match=r"'odd'.*its shape function says: ZeroDivisionError"):
        mace.Session(model(custom("Odd", ["x"], ["y"])))
    mace.custom_op(DOMAIN, "Odd", shape=lambda x: "float")(lambda x: x)  # type: ignore[arg-type, return-value]
    with pytest.raises(ModelError, match="must return 1 type"):
        mace.Session(model(custom("Odd", ["x"], ["y"])))


def test_a_function_that_numba_can_not_compile_is_told_with_its_words() -> None:
    @mace.custom_op(DOMAIN, "Clamp", outputs=("y",), shape=like_first_input, compiled=True)
    def clamp(x: Any, y: Any) -> None:
        y[:] = unheard_of(x)  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(MaceError, match=r"numba cannot compile.*clamp.*unheard_of"):
        mace.Session(model(custom("Clamp", ["x"], ["y"])))


def test_registrations_that_make_no_operator_are_refused() -> None:
    for domain in ("", "ai.onnx", "ai.onnx.ml"):
        with pytest.raises(UsageError, match="belongs to the ONNX standard"):
            mace.custom_op(domain, "Relu")
    with pytest.raises(UsageError, match="needs a shape function"):
        mace.custom_op(DOMAIN, "A", compiled=True)
    with pytest.raises(UsageError, match="name each output once"):
        mace.custom_op(DOMAIN, "A", outputs=("y", "y"))
    with pytest.raises(UsageError, match=r"takes \*\*attributes; name each attribute"):
        mace.custom_op(DOMAIN, "A")(lambda x, **attributes: x)
    with pytest.raises(UsageError, match="say of what type the attribute 'size' is"):
        mace.custom_op(DOMAIN, "A")(lambda x, *, size: x)
    with pytest.raises(UsageError, match="'b' can only have the default None"):
        mace.custom_op(DOMAIN, "A")(lambda x, b=1: x)
    with pytest.raises(UsageError, match="its outputs \\(output\\) to fill"):
        mace.custom_op(DOMAIN, "A", shape=like_first_input, compiled=True)(lambda x: None)
    assert registered_ops() == []


def test_an_operator_nobody_knows_says_how_to_register_it() -> None:
    with pytest.raises(MaceError, match=r"'unknown' \(com\.example\.Unknown\).*mace_core\.custom_op registers"):
        mace.Session(model(custom("Unknown", ["x"], ["y"])))


def test_an_installed_package_publishes_operators_imported_on_use(publish: Callable[[str], None]) -> None:
    publish(
        """
        import numpy as np
        import mace_core as mace

        @mace.custom_op("com.example", "Double", shape=mace.custom_ops.like_first_input)
        def double(x):
            return 2 * x
        """
    )
    with mace.Session(model(relu, outputs=("r",))):
        assert "acme_ops" not in sys.modules
    with mace.Session(model(custom("Double", ["x"], ["y"]))) as session:
        np.testing.assert_array_equal(session.run({"x": X})["y"], 2 * X)
    assert find_custom_op(DOMAIN, "Double") is not None


def test_a_package_that_fails_to_import_is_named(publish: Callable[[str], None]) -> None:
    publish("import no_such_module_anywhere")
    with pytest.raises(PluginError, match=r"com\.example\.Double, and .*acme-ops 1\.0.*no_such_module_anywhere"):
        mace.Session(model(custom("Double", ["x"], ["y"])))


def test_the_command_imports_operators_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "ops.py").write_text(
        "import mace_core as mace\n"
        f"@mace.custom_op('{DOMAIN}', 'Double', shape=mace.custom_ops.like_first_input)\n"
        "def double(x):\n    return 2 * x\n"
    )
    (tmp_path / "empty.py").write_text("")
    onnx.save(model(custom("Double", ["x"], ["y"])), tmp_path / "m.onnx")

    def mace_command(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mace_core.cli.main", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    done = mace_command("--custom-ops", "ops.py", "run", "m.onnx", "--random")
    assert done.returncode == 0, done.stderr
    assert "custom:0: 1" in done.stdout
    for source, words in (("none.py", "there is no Python file"), ("empty.py", "it registers no operator")):
        done = mace_command("--custom-ops", source, "run", "m.onnx", "--random")
        assert done.returncode == 2
        assert words in done.stderr
        assert "Traceback" not in done.stderr


def test_an_operator_can_not_write_to_its_inputs() -> None:
    """Other nodes read them, and the caller may own them."""

    @mace.custom_op(DOMAIN, "Overwriting", shape=like_first_input)
    def overwriting(x: Floats) -> Floats:
        x[...] = 0
        return x

    with (
        mace.Session(model(relu, custom("Overwriting", ["r"], ["y"]))) as session,
        pytest.raises(ProviderError, match="read-only"),
    ):
        session.run({"x": X})


def test_an_operator_needs_a_name() -> None:
    with pytest.raises(UsageError, match="needs a name"):
        mace.custom_op(DOMAIN, "")
