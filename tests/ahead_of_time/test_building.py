"""Building: several models in one library, several signatures, ranges of sizes, what is refused, what is written."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, str(Path(__file__).parent))
from programs import assert_close, link, run, skip_without

import mace_core as mace
from mace_core.ahead_of_time import SizeRange, build_library, parse_shape
from mace_core.errors import (
    InputError,
    MaceError,
    ModelError,
    ProviderError,
    SignatureError,
    UnsupportedError,
    UsageError,
)
from mace_core.package.keys import make_key_pair

Array = npt.NDArray[Any]


def model(
    nodes: list[onnx.NodeProto], shape: list[int | str], weights: dict[str, Array], *outputs: str
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def weights(*shape: int) -> Array:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


def network(width: int | str = "w") -> onnx.ModelProto:
    """A convolution over lines of any width, and what follows lines in a recognizer."""
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("ReduceMean", ["r"], ["m"], axes=[2], keepdims=0),
        helper.make_node("Transpose", ["m"], ["t"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["t", "w1"], ["l"]),
        helper.make_node("Softmax", ["l"], ["y"], axis=-1),
    ]
    return model(nodes, [1, 3, 16, width], {"k": weights(8, 3, 3, 3), "w1": weights(8, 5)}, "y")


def line(width: int) -> Array:
    return np.random.default_rng(width).standard_normal((1, 3, 16, width)).astype(np.float32)


def expected_of(proto: onnx.ModelProto, x: Array) -> dict[str, Array]:
    with mace.Session(proto, devices=["cpu"]) as session:
        return {name: np.asarray(value) for name, value in session.run({"x": x}).items()}


def test_one_library_serves_every_size_of_a_range(tmp_path: Path) -> None:
    skip_without("host")
    library = build_library(network(), tmp_path, shapes={"x": (1, 3, 16, SizeRange(1, 40))}, name="net")
    assert library.models[0].outputs[0].smallest == [1, 1, 5]
    assert library.models[0].outputs[0].largest == [1, 20, 5]
    program = link(library, "net")
    for width in (1, 2, 3, 7, 16, 33, 40):
        ran = run(program, "host", {"x": line(width)}, shapes=[f"1,3,16,{width}"])
        expected = expected_of(network(), line(width))
        assert ran.status == 0, ran.text
        assert f"output y 1 {(width + 1) // 2} 5" in ran.text
        assert_close(ran.arrays(expected), expected)
    for text in ("1,3,16,41", "1,3,16,0", "2,3,16,8", "1,3,16,-8"):
        assert run(program, "host", {}, shapes=[text]).text.startswith("shapes: 2: the model 'net' was not built")


def test_signatures_share_weights(tmp_path: Path) -> None:
    skip_without("host")
    alone = build_library(network(), tmp_path / "one", shapes={"x": (1, 3, 16, 48)}, name="net")
    shapes = [{"x": (1, 3, 16, 48)}, {"x": (1, 3, 16, 64)}]
    both = build_library(network(), tmp_path / "both", shapes=shapes, name="net")
    assert both.models[0].plans == 2
    assert both.weight_bytes < 1.5 * alone.weight_bytes
    program = link(both, "net")
    assert "output y 1 32 5" in run(program, "host", {"x": line(64)}).text, "an instance begins with the largest"
    for width in (48, 64):
        expected = expected_of(network(), line(width))
        assert_close(run(program, "host", {"x": line(width)}, shapes=[f"1,3,16,{width}"]).arrays(expected), expected)
    assert "shapes: 2: " in run(program, "host", {}, shapes=["1,3,16,9"]).text


def test_several_models_are_linked_into_one_library_and_libraries_into_one_program(tmp_path: Path) -> None:
    skip_without("host")
    other = model([helper.make_node("Conv", ["x", "k"], ["y"])], [1, 3, 16, 8], {"k": weights(8, 3, 3, 3)}, "y")
    shapes = {"first": [{"x": (1, 3, 16, 8)}]}
    library = build_library({"first": network(), "second": other}, tmp_path / "both", shapes=shapes, name="parts")
    assert [built.symbol for built in library.models] == ["first", "second"]
    third = build_library(network(8), tmp_path / "third", name="third")
    # another library with the same kernels in the same program: nothing of the two may collide
    archive = third.folder / "lib" / "host" / "libthird.a"
    for name, proto in (("first", network()), ("second", other)):
        program = link(library, name, options=["-Wl,--whole-archive", str(archive), "-Wl,--no-whole-archive"])
        expected = expected_of(proto, line(8))
        assert_close(run(program, "host", {"x": line(8)}).arrays(expected), expected)


def test_outputs_that_no_step_computes_are_copied(tmp_path: Path) -> None:
    skip_without("host")
    constant = np.arange(6, dtype=np.float32).reshape(2, 3)
    nodes = [helper.make_node("Abs", ["x"], ["y"]), helper.make_node("Identity", ["c"], ["z"])]
    proto = model(nodes, [2, 2], {"c": constant}, "y", "z")
    program = link(build_library(proto, tmp_path, name="net"), "net")
    x = np.array([[1, -2], [3, -4]], np.float32)
    got = run(program, "host", {"x": x}).arrays({"y": x, "z": constant})
    np.testing.assert_array_equal(got["y"], np.abs(x))
    np.testing.assert_array_equal(got["z"], constant)


def test_what_has_no_native_code_is_refused_with_the_node(tmp_path: Path) -> None:
    odd = model([helper.make_node("Odd", ["x"], ["y"], name="strange", domain="acme")], [2], {}, "y")
    odd.opset_import.append(helper.make_opsetid("acme", 1))
    with pytest.raises(MaceError, match="strange"):
        build_library(odd, tmp_path / "out")
    found = model([helper.make_node("NonZero", ["x"], ["n"], name="found"),
                   helper.make_node("Cast", ["n"], ["y"], to=TensorProto.FLOAT)], [4], {}, "y")  # fmt: skip
    with pytest.raises(UnsupportedError, match="shape"):
        build_library(found, tmp_path / "out")
    text = helper.make_node("StringNormalizer", ["x"], ["y"], name="lower")
    graph = helper.make_graph(
        [text],
        "words",
        [helper.make_tensor_value_info("x", TensorProto.STRING, [2])],
        [helper.make_tensor_value_info("y", TensorProto.STRING, [2])],
    )
    with pytest.raises(UnsupportedError, match="the input 'x'"):
        build_library(
            helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "out"
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("type", ["INT4", "STRING"])
def test_an_output_that_c_has_no_type_for_is_refused(type: str, tmp_path: Path) -> None:
    kind = getattr(TensorProto, type)
    graph = helper.make_graph(
        [helper.make_node("Cast", ["x"], ["y"], to=kind)],
        "odd",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
        [helper.make_tensor_value_info("y", kind, [4])],
    )
    odd = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    with pytest.raises(
        UnsupportedError, match=rf"the output 'y' is {type.lower()}\[4\], which a C program cannot pass"
    ):
        build_library(odd, tmp_path / "out")


def test_what_means_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'arm64-v8a'"):
        build_library(network(8), tmp_path / "out", target="arm64-v8")
    with pytest.raises(UsageError, match="1 to 64 threads"):
        build_library(network(8), tmp_path / "out", threads=65)
    with pytest.raises(InputError, match="does not fit"):
        build_library(network(8), tmp_path / "out", shapes={"x": (1, 3, 16, SizeRange(8, 16))})
    with pytest.raises(InputError):
        build_library(network(8), tmp_path / "out", shapes={"no": (1,)})
    for text in ("1x", "8..4", "4..8:3", "a", "1x-2", "0..4"):
        with pytest.raises(UsageError):
            parse_shape(text)
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a file"):
        build_library(network(8), tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_names_of_a_model_are_no_formats(tmp_path: Path) -> None:
    """What the program prints of a wrong index, and what a session says of it."""
    skip_without("host")
    graph = helper.make_graph(
        [helper.make_node("Gather", ["t", "i{x}%n"], ["y"], name="pick %s {y} a\0b {}")],
        "rows",
        [helper.make_tensor_value_info("i{x}%n", TensorProto.INT64, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        [numpy_helper.from_array(weights(4, 2), "t")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    feeds = {"i{x}%n": np.int64([9])}
    library = build_library(proto, tmp_path, name="net")
    told = "'i{x}%n' holds the index 9, which is outside its axis of 4 elements"
    ran = run(link(library, "net"), "host", feeds)
    assert ran.status != 0
    assert f"node 'pick %s {{y}} a\ufffdb {{}}': {told}" in ran.text
    with mace.Session(proto, devices=["cpu"]) as session, pytest.raises(ProviderError, match=re.escape(told)):
        session.run(feeds)


def test_what_32_bits_cannot_count_is_refused(tmp_path: Path) -> None:
    wide = model([helper.make_node("Relu", ["x"], ["y"])], ["n"], {}, "y")
    with pytest.raises(UnsupportedError, match=r"'x' takes up to 4\.0 GiB, more than a program for 'armeabi-v7a' can"):
        build_library(
            wide, tmp_path / "out", target="armeabi-v7a", shapes={"x": (SizeRange(1 << 20, 1 << 30, 1 << 20),)}
        )
    build_library(wide, tmp_path / "out", target="armeabi-v7a", shapes={"x": (1 << 20,)})


def test_a_library_is_built_of_any_model_whoever_is_trusted_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As packages are written: who is trusted is asked where a file is used."""
    pytest.importorskip("cryptography", reason="cryptography is not installed: it reads keys")
    _, public, _ = make_key_pair(tmp_path / "release.key")
    monkeypatch.setenv("MACE_TRUSTED_KEYS", str(public))
    with pytest.raises(SignatureError, match="is not a package"):
        mace.Session(network(8), devices=["cpu"])
    build_library(network(8), tmp_path / "out", name="net", threads=1)


def test_an_interrupted_build_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = build_library(network(8), tmp_path / "out", name="net")
    before = {path: path.read_bytes() for path in library.files}

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mace_core.native.archive.write_archive", interrupt)
    with pytest.raises(KeyboardInterrupt):
        build_library(network(16), tmp_path / "out", name="net")
    assert {path: path.read_bytes() for path in library.files} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert {path for path in (tmp_path / "out").rglob("*") if path.is_file()} == set(before)


@pytest.mark.parametrize("folder", [".", "", "../other", "new/.."])
def test_a_library_goes_into_the_folder_where_one_is(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here" / "new").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    build_library(network(8), folder, name="net")
    assert (Path(folder) / "include" / "net.h").exists()
    made = {path.name for path in (*tmp_path.iterdir(), *(tmp_path / "here").iterdir())}
    assert made <= {"here", "other", "new", "lib", "include"}, "nothing is left"


def test_the_same_model_gives_the_same_files(tmp_path: Path) -> None:
    first, second = (build_library(network(8), tmp_path / name, name="net") for name in ("a", "b"))
    for one, other in zip(first.files, second.files, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_a_library_wants_the_c_library_alone_and_shows_its_models_alone(tmp_path: Path) -> None:
    skip_without("host")
    library = build_library(network(8), tmp_path, name="net", threads=1)
    assert not [name for name in library.imports if name.startswith("pthread_create")]
    archive = library.folder / "lib" / "host" / "libnet.a"
    symbols = subprocess.run(["nm", "-g", "--defined-only", str(archive)], capture_output=True, text=True, check=True)
    assert re.findall(r"\b[TDBRW] (\w+)", symbols.stdout) == ["net_model"]
    assert library.kernels > 0
    assert library.code_bytes + library.weight_bytes + library.table_bytes < library.object_bytes


def test_models_of_bytes_stay_bytes(tmp_path: Path) -> None:
    skip_without("host")
    scale, zero = np.array(0.05, np.float32), np.array(3, np.uint8)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("DequantizeLinear", ["wq", "ws", "wz"], ["w"]),
        helper.make_node("Conv", ["d", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("QuantizeLinear", ["c", "s", "z"], ["cq"]),
        helper.make_node("DequantizeLinear", ["cq", "s", "z"], ["y"]),
    ]
    kernel = np.random.default_rng(3).integers(-127, 127, (16, 3, 3, 3)).astype(np.int8)
    constants = {"s": scale, "z": zero, "wq": kernel, "ws": np.array(0.002, np.float32), "wz": np.array(0, np.int8)}
    proto = model(nodes, [1, 3, 16, 8], constants, "y")
    library = build_library(proto, tmp_path, name="net")
    expected = expected_of(proto, line(8))
    got = run(link(library, "net"), "host", {"x": line(8)}).arrays(expected)
    np.testing.assert_array_equal(got["y"], expected["y"])
    assert library.weight_bytes < 4 * kernel.size + 4096


@pytest.mark.full
def test_a_range_whose_sizes_a_model_does_not_all_take_is_told(tmp_path: Path) -> None:
    """Halves of an odd width, twice as large, do not fit what they were made of."""
    nodes = [
        helper.make_node("MaxPool", ["x"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Resize", ["p", "", "s"], ["r"]),
        helper.make_node("Add", ["x", "r"], ["y"]),
    ]
    net = model(nodes, [1, 3, 16, "w"], {"s": np.array([1, 1, 2, 2], np.float32)}, "y")
    with pytest.raises(ModelError, match=r"every size in x=1x3x16x8\.\.32: give steps"):
        build_library(net, tmp_path / "out", shapes={"x": (1, 3, 16, SizeRange(8, 32))}, name="net")
    assert build_library(net, tmp_path / "out", shapes={"x": (1, 3, 16, SizeRange(8, 32, 2))}, name="net").models
