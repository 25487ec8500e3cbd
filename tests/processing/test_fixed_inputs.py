"""Inputs that become constants: a model for one sampling rate, one branch of an If, a library without control flow."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import mace_core as mace
from mace_core.ahead_of_time import build_library
from mace_core.cli.compile_library import _inputs, _values
from mace_core.cli.fixed_inputs import parse_fixed
from mace_core.cli.main import main
from mace_core.errors import UnsupportedError, UsageError
from mace_core.frontend.load import load_model
from mace_core.processing import fix_inputs
from mace_core.scheduler.planning.specs import every_input

FLOAT, BOOL, INT64 = TensorProto.FLOAT, TensorProto.BOOL, TensorProto.INT64

VAD = {"input": (1, 576), "state": (2, 1, 128)}


def branching() -> onnx.ModelProto:
    """y = x * 2 where ``double``, else x + offset; ``offset`` has a default."""
    x, y = (helper.make_tensor_value_info(name, FLOAT, ["n"]) for name in "xy")
    offset = helper.make_tensor_value_info("offset", FLOAT, [1])
    two = numpy_helper.from_array(np.array([2], np.float32), "two")
    bodies = []
    for op, right, out in (("Mul", "two", "doubled"), ("Add", "offset", "moved")):
        end = helper.make_tensor_value_info(out, FLOAT, None)
        bodies.append(helper.make_graph([helper.make_node(op, ["x", right], [out])], out, [], [end]))
    node = helper.make_node("If", ["double"], ["y"], name="choose", then_branch=bodies[0], else_branch=bodies[1])
    inputs = [x, helper.make_tensor_value_info("double", BOOL, []), offset]
    default = numpy_helper.from_array(np.ones(1, np.float32), "offset")
    graph = helper.make_graph([node], "branching", inputs, [y], [two, default])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def voice_detector() -> Path:
    found = importlib.util.find_spec("silero_vad")
    if found is None or not found.submodule_search_locations:
        pytest.skip("silero_vad is not installed")
    return Path(found.submodule_search_locations[0]) / "data" / "silero_vad.onnx"


@pytest.fixture
def saved(tmp_path: Path) -> str:
    path = tmp_path / "branching.onnx"
    onnx.save(branching(), path)
    return str(path)


@pytest.mark.parametrize("double", [True, False])
def test_an_if_is_the_branch_that_was_decided(double: bool) -> None:
    x = np.array([1, -2, 4], np.float32)
    graph = fix_inputs(branching(), {"double": double, "offset": [0.5]})
    assert [value.name for value in graph.inputs] == ["x"] and not graph.defaults
    right = onnxruntime.InferenceSession(branching().SerializeToString(), providers=["CPUExecutionProvider"])
    wanted = right.run(None, {"x": x, "double": np.array(double), "offset": np.array([0.5], np.float32)})[0]
    with mace.Session(graph, devices=["cpu"]) as session:
        assert list(session.run({"x": x})) == ["y"]
        np.testing.assert_array_equal(session.run({"x": x})["y"], wanted)
        (node,) = session.explain().nodes
        assert node.op == ("Mul" if double else "Add"), "nothing but the branch is left"


def test_the_model_given_is_not_changed() -> None:
    graph = load_model(branching())
    fix_inputs(graph, {"double": True, "offset": np.zeros(1, np.float32)})
    assert [value.name for value in graph.inputs] == ["x", "double"] and list(graph.defaults) == ["offset"]
    assert all(value.constant is None for value in graph.inputs)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"q": 1}, "no input 'q'.*'x', 'double', 'offset'"),
        ({"double": 2}, "'double' is bool, which does not hold 2"),
        ({"double": np.array(1)}, "'double' is bool, and the value for it int64"),
        ({"double": [True]}, r"'double' has the shape \[\], and the value for it \[1\]"),
        ({"offset": [1, 2]}, r"'offset' has the shape \[1\]"),
        ({"offset": ["a"]}, "'offset' is float32"),
    ],
)
def test_values_that_do_not_fit_are_refused(values: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        fix_inputs(branching(), values)


def test_state_cannot_be_fixed() -> None:
    from mace_core.graph.kept import KeptState, keep_state

    graph = load_model(branching())
    keep_state(graph, {"x": KeptState("y")})
    with pytest.raises(UsageError, match="'x' is state"):
        fix_inputs(graph, {"x": np.zeros(3, np.float32)})


def test_a_voice_detector_for_one_rate_becomes_a_library_and_a_package(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Silero's detector decides by the rate which of its two networks runs."""
    model = voice_detector()
    for file in (model, model.with_name("silero_vad_op18_ifless.onnx")):
        with pytest.raises(UnsupportedError, match=r"\(If.*--set NAME=VALUE"):
            build_library(file, tmp_path / "none", shapes=VAD)
    shapes = [f"--shape={name}={'x'.join(map(str, shape))}" for name, shape in VAD.items()]
    package = tmp_path / "vad.mace"
    assert main(["compile", str(model), "--target", "host", "--set", "sr=16000", *shapes, "-o", str(tmp_path)]) == 0
    assert (tmp_path / "include" / "silero_vad.h").exists() and "int64" not in capsys.readouterr().out
    assert main(["compile", str(model), "-d", "cpu", "--set=sr=16000", *shapes, "-o", str(package)]) == 0
    feeds: dict[str, npt.NDArray[Any]] = {
        name: np.random.default_rng(3).standard_normal(shape).astype(np.float32) for name, shape in VAD.items()
    }
    with mace.Session(model, devices=["cpu"]) as session:
        wanted = session.run({**feeds, "sr": np.array(16000)})
    with mace.Session(package, devices=["cpu"]) as session:
        assert [spec.name for spec in session.inputs] == ["input", "state"]
        found = session.run(feeds)
    for name, right in wanted.items():
        np.testing.assert_allclose(found[name], right, rtol=0, atol=1e-5)


def test_values_on_the_command_line(saved: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "branching.mace"
    np.save(tmp_path / "offset.npy", np.array([0.25], np.float32))
    given = ["--set", "double=false", "--set", f"offset={tmp_path / 'offset.npy'}", "--shape", "x=3"]
    assert main(["compile", saved, "-d", "cpu", "-o", str(out), *given]) == 0
    with mace.Session(out, devices=["cpu"]) as session:
        np.testing.assert_array_equal(session.run({"x": np.zeros(3, np.float32)})["y"], [0.25] * 3)
    capsys.readouterr()


@pytest.mark.parametrize("kind", [["-d", "cpu", "-o", "b.mace"], ["--target", "host", "-o", "lib"]])
@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("q=1", "no input 'q'"),
        ("double", "NAME=VALUE"),
        ("double=2", "'2' is no bool"),
        ("double=true,false", "has 1 elements"),
        ("offset=one", "'one' is no float32"),
        ("offset=none.npy", "there is no file 'none.npy'"),
        ("x=many", "'many' is no float32"),
    ],
)
def test_mistakes_on_the_command_line(
    saved: str,
    kind: list[str],
    given: str,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["compile", saved, *kind, "--set", given]) == 2
    printed = capsys.readouterr().err
    assert told in printed and printed.count("error") == 1, printed
    assert [path.name for path in tmp_path.iterdir()] == ["branching.onnx"]


def test_models_of_one_library_have_values_of_their_own(saved: str, tmp_path: Path) -> None:
    library = build_library(
        {"one": saved, "other": saved},
        tmp_path / "out",
        shapes={name: [{"x": (3,)}] for name in ("one", "other")},
        fixed={"one": {"double": True}, "other": {"double": False}},
    )
    assert [[tensor.name for tensor in model.inputs] for model in library.models] == [["x"], ["x"]]


def test_a_package_is_tried_with_the_shapes_that_it_was_compiled_for(
    saved: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "branching.mace"
    assert main(["compile", saved, "-d", "cpu", "-o", str(out), "--set=double=true", "--shape=x=7"]) == 0
    capsys.readouterr()
    assert main(["run", str(out), "--random", "--device=cpu"]) == 0
    printed = capsys.readouterr()
    assert "y: float32[7]" in printed.out and not printed.err
    with mace.Session(out, devices=["cpu"]) as session:
        assert session.assume_shapes().shapes == {"x": (7,)}
        assert session.assume_shapes({"x": (9,)}).shapes == {"x": (9,)}


def passing(dtype: str, shape: list[int | str]) -> onnx.ModelProto:
    """Two inputs that are outputs again: x, and v of a type and shape."""
    kind = getattr(TensorProto, dtype.upper())
    inputs = [helper.make_tensor_value_info("x", FLOAT, [2]), helper.make_tensor_value_info("v", kind, shape)]
    outputs = [helper.make_tensor_value_info("y", FLOAT, [2]), helper.make_tensor_value_info("w", kind, shape)]
    nodes = [helper.make_node("Identity", ["x"], ["y"]), helper.make_node("Identity", ["v"], ["w"])]
    graph = helper.make_graph(nodes, "passing", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)


@pytest.mark.parametrize(
    ("dtype", "text", "wanted"),
    [
        ("float", "-1.5,inf", [-1.5, np.inf]),
        ("float", "1e39,0", None),
        ("float", "1e400,0", None),
        ("float16", "65504,-1", [65504, -1]),
        ("float16", "70000,1", None),
        ("bfloat16", "0.5,1e38", [0.5, 1e38]),
        ("float8e4m3fn", "448,2", [448, 2]),
        ("float8e4m3fn", "1000,2", None),
        ("float4e2m1", "6,-0.5", [6, -0.5]),
        ("float4e2m1", "300,1", None),
        ("float4e2m1", "nan,1", None),
        ("int4", "-8,7", [-8, 7]),
        ("int4", "8,0", None),
        ("uint4", "-1,1", None),
        ("int64", f"{2**63 - 1},{-(2**63)}", [2**63 - 1, -(2**63)]),
        ("int64", f"{2**63},1", None),
        ("uint64", f"{2**64 - 1},0", [2**64 - 1, 0]),
        ("int32", "1_0,2", None),
        ("int32", "0x10,1", None),
        ("double", "1e400,0", None),
        ("complex64", "1+2j,-3", [1 + 2j, -3]),
        ("complex64", "1e39,0", None),
        ("string", "a=b,ä", ["a=b", "ä"]),
        ("string", "longer", ["longer", "longer"]),
    ],
)
def test_a_type_holds_what_is_set_or_refuses_it(dtype: str, text: str, wanted: list[Any] | None) -> None:
    """Nothing wraps around, and nothing finite becomes infinite."""
    graph = load_model(passing(dtype, [2]))
    specs = every_input(graph)
    if wanted is None:
        with pytest.raises(UsageError, match=rf"--set v=.* is no {specs[1].dtype.label}"):
            parse_fixed([f"v={text}"], specs)
        return
    values = parse_fixed([f"v={text}"], specs)
    with mace.Session(fix_inputs(graph, values), devices=["cpu"]) as session:
        found = session.run({"x": np.zeros(2, np.float32)})["w"]
    exact = wanted if found.dtype.kind in "iuOc" else np.array(wanted).astype(found.dtype).astype(float).tolist()
    assert (found if found.dtype.kind in "iuOc" else found.astype(float)).tolist() == exact


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("float", [10**400, 1]),
        ("float", [None, 1]),
        ("float", [1, [2]]),
        ("float", [1j, 1]),
        ("float", ["1", "2"]),
        ("int4", [10**30, 0]),
        ("int32", [1.5, 0]),
        ("bool", [10**30, 0]),
        ("string", [1, 2]),
        ("string", [b"a", "a"]),
        ("string", np.array([object(), "a"])),
    ],
)
def test_python_values_that_are_none_of_the_type(dtype: str, value: Any) -> None:
    with pytest.raises(UsageError, match="the input 'v' is"):
        fix_inputs(passing(dtype, [2]), {"v": value})


def test_arrays_of_other_byte_orders_and_of_kinds_that_numpy_does_not_name(tmp_path: Path) -> None:
    from mace_core.tensor import DType

    swapped = np.array([1.5, -2], ">f4")
    fixed = fix_inputs(passing("float", [2]), {"v": swapped}).initializers["v"].constant
    assert fixed is not None and fixed.numpy().tolist() == [1.5, -2]
    texts = fix_inputs(passing("string", [2]), {"v": np.array(["ab", "c"])}).initializers["v"].constant
    assert texts is not None and texts.numpy().tolist() == ["ab", "c"]
    narrow = DType.BFLOAT16.numpy
    np.save(tmp_path / "v.npy", np.array([1.5, -2], narrow))
    np.save(tmp_path / "wide.npy", np.array([1, 2], np.uint16))
    graph = load_model(passing("bfloat16", [2]))
    values = parse_fixed([f"v={tmp_path / 'v.npy'}"], every_input(graph))
    assert values["v"].dtype == narrow and values["v"].astype(float).tolist() == [1.5, -2]
    with pytest.raises(UsageError, match="bfloat16, and the value for it uint16"):
        fix_inputs(graph, parse_fixed([f"v={tmp_path / 'wide.npy'}"], every_input(graph)))


def shared() -> onnx.ModelProto:
    """y = x * v + w, where x is (n, n) and v and w are (n)."""
    inputs = [helper.make_tensor_value_info(name, FLOAT, ["n"] * rank) for name, rank in (("x", 2), ("v", 1), ("w", 1))]
    nodes = [helper.make_node("Mul", ["x", "v"], ["z"]), helper.make_node("Add", ["z", "w"], ["y"])]
    y = helper.make_tensor_value_info("y", FLOAT, ["n", "n"])
    graph = helper.make_graph(nodes, "shared", inputs, [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_a_symbol_has_the_size_of_the_value_in_other_inputs_too() -> None:
    graph = fix_inputs(shared(), {"v": [1, 2, 3]})
    assert [(value.name, str(value.type)) for value in graph.inputs] == [("x", "float32[3, 3]"), ("w", "float32[3]")]
    assert str(graph.outputs[0].type) == "float32[3, 3]"
    with pytest.raises(UsageError, match="'n' is 3 in the value for the input 'v', and 2 in that for 'w'"):
        fix_inputs(shared(), {"v": [1, 2, 3], "w": [1, 2]})


def test_one_number_fills_an_input_whose_sizes_are_said_of_another(tmp_path: Path) -> None:
    """A mask of ones for a text of a given length."""
    specs = every_input(load_model(shared()))
    assert parse_fixed(["w=2"], specs, ["x=3x3"])["w"].tolist() == [2, 2, 2]
    assert parse_fixed(["w=2"], specs, ["x=3x4", "q=1"])["w"].tolist() == [2], "no size: one number is one element"
    with pytest.raises(UsageError, match="has free sizes; say them with --shape"):
        parse_fixed(["x=2"], specs, ["v=3", "v=4"])
    with pytest.raises(UsageError, match="has free sizes"):
        parse_fixed(["x=2"], specs, ["v=3..4"])
    assert parse_fixed(["w=2"], specs, ["w=3", "x=3x3"])["w"].tolist() == [2, 2, 2], "its own shape"
    with pytest.raises(UsageError, match=r"--shape w=4: the value that the input 'w' is set to is \[3\]"):
        parse_fixed(["w=1,2,3"], specs, ["w=3", "w=4"])
    path = tmp_path / "shared.onnx"
    onnx.save(shared(), path)
    kinds = (["-d", "cpu", "-o", str(tmp_path / "s.mace")], ["--target", "host", "-o", str(tmp_path / "lib")])
    for kind in kinds:
        assert main(["compile", str(path), *kind, "--set", "x=2", "--shape=v=3", "--shape=w=3", "--shape=x=3x3"]) == 0
    with mace.Session(tmp_path / "s.mace", devices=["cpu"]) as session:
        found = session.run({"v": np.array([1, 2, 3], np.float32), "w": np.ones(3, np.float32)})["y"]
    assert found.tolist() == [[3, 5, 7]] * 3


def test_names_and_values_with_signs_that_part_them(tmp_path: Path) -> None:
    """A library of two models: what is set goes to the longest name that fits."""
    names = ["a=b", "serving:0", "c,d e.f", "x"]
    inputs = [helper.make_tensor_value_info(name, FLOAT, [2]) for name in names]
    y = helper.make_tensor_value_info("y", FLOAT, [2])
    graph = helper.make_graph([helper.make_node("Sum", names, ["y"])], "names", inputs, [y])
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "n.onnx")
    (tmp_path / "d=e").mkdir()
    np.save(tmp_path / "d=e" / "v.npy", np.ones(2, np.float32))
    found = _inputs({"n": str(tmp_path / "n.onnx"), "o": str(tmp_path / "n.onnx")})
    texts = ["n:a=b=1,2", f"o:serving:0={tmp_path}/d=e/v.npy", "n:c,d e.f=5"]
    values = _values(found, texts, [])
    assert {model: {name: array.tolist() for name, array in each.items()} for model, each in values.items()} == {
        "n": {"a=b": [1, 2], "c,d e.f": [5, 5]},
        "o": {"serving:0": [1, 1]},
    }
    for text, told in (("x=1", "n and o have an input 'x'; say which, like n:x=1"), ("n:q=1", "no input 'n:q'")):
        with pytest.raises(UsageError, match=told):
            _values(found, [text], [])


def test_models_that_are_not_there_are_told(saved: str, tmp_path: Path) -> None:
    for given, told in (
        ({"fixed": {"two": {"double": True}}}, "fixed: there is no model 'two' in the library; its models: 'one'"),
        ({"fixed": {"one": 1}}, "a mapping for each"),
        ({"shapes": {"two": [{"x": (3,)}]}}, "shapes: there is no model 'two'"),
    ):
        with pytest.raises(UsageError, match=told):
            build_library({"one": saved}, tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()


def test_a_whole_network_of_constants(tmp_path: Path) -> None:
    """Some of it is computed exactly beforehand, and fed to the rest, which a device computes."""
    rng = np.random.default_rng(2)
    x = helper.make_tensor_value_info("x", FLOAT, [1, 128, 128, 3])
    y = helper.make_tensor_value_info("y", FLOAT, None)
    nodes = [
        helper.make_node("Transpose", ["x"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "kernel"], ["h"], strides=[2, 2]),
        helper.make_node("Tanh", ["h"], ["y"]),
    ]
    kernel = numpy_helper.from_array(rng.standard_normal((8, 3, 3, 3)).astype(np.float32), "kernel")
    graph = helper.make_graph(nodes, "net", [x], [y], [kernel])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    value = rng.standard_normal((1, 128, 128, 3)).astype(np.float32)
    right = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    with mace.Session(fix_inputs(model, {"x": value}), devices=["cpu"]) as session:
        np.testing.assert_allclose(session.run({})["y"], right.run(None, {"x": value})[0], rtol=0, atol=1e-5)
    library = build_library(model, tmp_path / "out", fixed={"x": value})
    assert not library.models[0].inputs
    with pytest.raises(UnsupportedError, match="all of its outputs are constants"):
        mace.compile(model, tmp_path / "out.mace", devices="cpu", fixed={"x": value})
