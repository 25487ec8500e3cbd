"""A size to keep to: the file is no larger, and what loses most stays most exact."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from mace_core.errors import UsageError
from mace_core.quantization import Outcome, Settings, quantize
from mace_core.quantization.budget import Stored, choose_levels, parse_size
from mace_core.testing.network import NetworkBuilder

sys.path.insert(0, str(Path(__file__).parent))
from quantization_networks import samples, sqnr_db

WIDTH = 64


def layers(count: int = 6) -> onnx.ModelProto:
    """Products in a row, of which those with outliers in their weights suffer from few bits; and a table."""
    random = np.random.default_rng(0)
    nodes = [helper.make_node("Gather", ["table", "x"], ["v0"], name="lookup")]
    constants = [numpy_helper.from_array(random.standard_normal((200, WIDTH), np.float32), "table")]
    for number in range(count):
        weights = random.standard_normal((WIDTH, WIDTH), np.float32) / np.float32(WIDTH**0.5)
        weights.flat[: number * 8] *= 1 + number * 3
        constants.append(numpy_helper.from_array(weights, f"w{number}"))
        nodes.append(helper.make_node("MatMul", [f"v{number}", f"w{number}"], [f"v{number + 1}"], name=f"mm{number}"))
    graph = helper.make_graph(
        nodes,
        "layers",
        [helper.make_tensor_value_info("x", TensorProto.INT64, [5])],
        [helper.make_tensor_value_info(f"v{count}", TensorProto.FLOAT, [5, WIDTH])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


TOKENS = [{"x": np.arange(5, dtype=np.int64) * 7 + start} for start in range(20)]


def made(folder: Path, size: str, scheme: str, **given: object) -> tuple[Outcome, float]:
    """What came of it, and how far from the float model that is, in dB."""
    model, out = layers(), folder / "out.onnx"
    found = quantize(model, out, settings=Settings(scheme), max_size=size, **given)
    runs = [
        onnxruntime.InferenceSession(source, providers=["CPUExecutionProvider"]).run(None, TOKENS[3])[0]
        for source in (str(out), model.SerializeToString())
    ]
    return found, sqnr_db(*runs)


@pytest.mark.parametrize(
    ("scheme", "sizes"),
    [("int8", ("90%", "60%", "40%")), ("a16w8", ("80%", "40%")), ("dynamic", ("90%", "40%")),
     ("int4-weight", ("80%", "40%", "29%", "24%"))],
)  # fmt: skip
def test_files_keep_to_the_size_and_larger_ones_lose_less(tmp_path: Path, scheme: str, sizes: tuple[str, ...]) -> None:
    whole = len(layers().SerializeToString())
    quality = []
    for size in sizes:
        found, decibels = made(
            tmp_path, size, scheme, **({} if scheme in ("dynamic", "int4-weight") else {"data": TOKENS})
        )
        limit = int(whole * float(size[:-1]) / 100)
        assert found.budget is not None and found.budget.limit == limit
        written = (tmp_path / "out.onnx").stat().st_size
        assert written <= limit and written <= found.budget.size <= written + 128 * 20
        elements = [integers.size for node, (integers, _) in found.weights.items() if node in found.budget.levels]
        room = 3 * min(elements, default=limit) + 4096
        assert written > limit - room, "another layer would have fit in"
        kept = {node for node, level in found.budget.levels.items() if level == "float"}
        assert {node for node in kept if "room for it in float" in found.floats[node]} == kept
        assert not kept & set(found.nodes)
        quality.append(decibels)
    assert quality == sorted(quality, reverse=True)


def test_between_4_bits_and_float_there_are_8(tmp_path: Path) -> None:
    found, _ = made(tmp_path, "24%", "int4-weight")
    assert found.budget is not None and {"int8", "int4"} <= set(found.budget.levels.values())
    stored = {node: encoding.dtype.label for node, (_, encoding) in found.weights.items()}
    assert all(stored.get(node, "float") == level for node, level in found.budget.levels.items())
    assert found.budget.levels["mm0"] == "int4", "weights without outliers can do with the fewest bits"


def test_with_data_what_matters_is_the_result(tmp_path: Path) -> None:
    """A layer whose inputs are zero for its outliers loses nothing to them; its weights alone say that it does."""
    model = layers(2)
    table, first = (numpy_helper.to_array(model.graph.initializer[index]).copy() for index in (0, 1))
    table[:, WIDTH // 2 :] = 0
    first[: WIDTH // 2] = np.eye(WIDTH, dtype=np.float32)[: WIDTH // 2] * 7
    first[WIDTH // 2 :] *= 1000
    for index, array in ((0, table), (1, first)):
        model.graph.initializer[index].CopyFrom(numpy_helper.from_array(array, model.graph.initializer[index].name))
    levels = [
        quantize(model, tmp_path / "o.onnx", settings=Settings("int4-weight"), max_size="26%", **data).budget
        for data in ({"data": TOKENS}, {})
    ]
    assert levels[0] is not None and levels[0].levels == {"lookup": "int8", "mm0": "int4", "mm1": "int8"}
    assert levels[1] is not None and levels[1].levels == {"lookup": "int8", "mm0": "int8", "mm1": "int4"}


def test_a_size_and_a_drop(tmp_path: Path) -> None:
    def score(session: object) -> float:
        return 1.0

    scores = iter([1.0, 0.5, 1.0, 0.5])
    found, _ = made(tmp_path, "60%", "int8", data=TOKENS, accuracy=score, max_drop=0.1)
    assert found.judged is not None and found.judged.after == 1
    (tmp_path / "out.onnx").unlink()
    with pytest.raises(UsageError, match=r"within 60%, '<lambda>' drops from 1 to 0.5, by more than the 0.1 allowed"):
        made(tmp_path, "60%", "int8", data=TOKENS, accuracy=lambda session: next(scores), max_drop=0.1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("size", "scheme", "said"),
    [
        ("1KB", "int8", r"model .* at the least, more than the .* asked for: allow more, or take the scheme int4"),
        ("1KB", "int4-weight", "asked for: allow more$"),
        ("200%", "int8", "nothing has to be quantized"),
        ("50%", "fp16", "a size to keep to is for the schemes int8, a16w8, dynamic, int4-weight"),
        *((text, "int8", f"'{text}' is no size") for text in ("", "many", "-1MB", "1TB", "%", "1ib", "1e9", "nan")),
        ("0MB", "int8", "leaves no room for a model"),
        ("0.0001%", "int8", "leaves no room for a model"),
    ],
)  # fmt: skip
def test_sizes_that_cannot_be(tmp_path: Path, size: str, scheme: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        made(tmp_path, size, scheme, data=TOKENS[:2])
    assert list(tmp_path.iterdir()) == []


def test_convolutions_too(tmp_path: Path) -> None:
    net = NetworkBuilder("wide", (1, 3, 8, 8), seed=0)
    x = net.op("Relu", net.conv("x", 3, 64, 3))
    x = net.op("Relu", net.conv(net.op("Relu", net.conv(x, 64, 64, 3)), 64, 64, 1))
    model = net.build(net.classifier(net.op("GlobalAveragePool", x), 64, 10), (1, 10))
    found = quantize(model, tmp_path / "o.onnx", data=samples(8, (1, 3, 8, 8)), max_size="50%")
    assert found.budget is not None
    assert (tmp_path / "o.onnx").stat().st_size <= found.budget.limit
    assert {"float", "int8"} == set(found.budget.levels.values())


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [("12MB", 12_000_000), ("1.5 GiB", 3 << 29), ("800000", 800_000), ("40%", 400), ("7 kib", 7168), ("5b", 5)],
)
def test_sizes(text: str, bytes_: int) -> None:
    assert parse_size(text, 1000) == bytes_


@st.composite
def constants(draw: st.DrawFn) -> Stored:
    levels = draw(st.integers(2, 3))
    sizes = sorted(draw(st.lists(st.integers(1, 50), min_size=levels, max_size=levels, unique=True)), reverse=True)
    noises = sorted(draw(st.lists(st.integers(1, 50), min_size=levels - 1, max_size=levels - 1)))
    return Stored(("n",), tuple("abc"[:levels]), tuple(sizes), (0, *noises))


@given(st.lists(constants(), min_size=1, max_size=5), st.integers(1, 200))
def test_the_choice_fits_leaves_no_room_and_is_nearly_the_best(found: list[Stored], limit: int) -> None:
    every = list(itertools.product(*(range(len(one.sizes)) for one in found)))

    def total(levels: tuple[int, ...], what: str) -> float:
        return sum(getattr(one, what)[level] for one, level in zip(found, levels, strict=True))

    possible = [levels for levels in every if total(levels, "sizes") <= limit]
    chosen = choose_levels(found, limit)
    if chosen is None:
        assert not possible
        return
    assert tuple(chosen) in possible
    best = min(total(levels, "noises") for levels in possible)
    assert total(tuple(chosen), "noises") <= best + max(max(one.noises) for one in found)
    for at, level in enumerate(chosen):
        if level:
            higher = (*chosen[:at], level - 1, *chosen[at + 1 :])
            if found[at].noises[level - 1] < found[at].noises[level]:
                assert total(higher, "sizes") > limit
