"""Attention written as MatMul, Softmax, MatMul: one step, wherever the heads lie, and only where it is that."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from harness import FEATURES, Ran, check_node, check_nodes, rejection
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

Array = npt.NDArray[Any]


def numbers(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def node(op: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), [output], **attributes)


def attend(q: str = "q", k: str = "k", v: str = "v", mask: str = "", factor: str = "Mul") -> list[onnx.NodeProto]:
    """The nodes from queries (…, T, D), keys (…, S, D) and values (…, S, E) to ``o``."""
    rank = 4
    nodes = [
        node("Transpose", k, "kt", perm=[*range(rank - 2), rank - 1, rank - 2]),
        node("MatMul", f"{q} kt", "s"),
        node(factor, "s factor", "scaled"),
    ]
    if mask:
        nodes.append(node("Add", f"scaled {mask}", "masked"))
    return [
        *nodes,
        node("Softmax", "masked" if mask else "scaled", "p", axis=-1),
        node("MatMul", f"p {v}", "o"),
    ]


def is_one_step(ran: Ran) -> bool:
    return any(step.count("MatMul") == 2 and "Softmax" in step for step in ran.steps)


@settings(max_examples=60)
@given(
    batch=st.integers(1, 2),
    heads=st.integers(1, 3),
    queries=st.integers(1, 70),
    keys=st.integers(1, 90),
    depth=st.integers(1, 40),
    columns=st.integers(1, 70),
    mask=st.sampled_from(["", "all", "keys", "queries", "row"]),
    threads=st.integers(1, 2),
    features=st.sampled_from(FEATURES),
)
def test_any_size(
    batch: int, heads: int, queries: int, keys: int, depth: int, columns: int, mask: str, threads: int, features: Any
) -> None:
    masks = {
        "all": (batch, heads, queries, keys),
        "keys": (batch, 1, 1, keys),
        "queries": (queries, keys),
        "row": (keys,),
    }
    given_ = {
        "q": numbers(0, batch, heads, queries, depth),
        "k": numbers(1, batch, heads, keys, depth),
        "v": numbers(2, batch, heads, keys, columns),
        "factor": np.array(0.3, np.float32),
    }
    if mask:
        given_["mask"] = numbers(3, *masks[mask])
    nodes = attend(mask="mask" if mask else "")
    ran = check_nodes(nodes, given_, ["o"], constants=("factor",), threads=threads, features=features)
    assert is_one_step(ran)


@settings(max_examples=40)
@given(
    heads=st.integers(1, 3),
    shared=st.integers(1, 3),
    keys=st.integers(1, 90),
    depth=st.integers(1, 70),
    columns=st.integers(1, 70),
    mask=st.booleans(),
    queries=st.sampled_from([1, 1, 3]),
    threads=st.integers(1, 2),
    features=st.sampled_from(FEATURES),
)
def test_heads_that_share_keys_and_values_do_not_repeat_them(
    heads: int, shared: int, keys: int, depth: int, columns: int, mask: bool, queries: int, threads: int, features: Any
) -> None:
    given_ = {
        "q": numbers(0, 2, heads * shared, queries, depth),
        "k0": numbers(1, 2, heads, keys, depth),
        "v0": numbers(2, 2, heads, keys, columns),
        "factor": np.array(0.3, np.float32),
        "two": np.array([2]),
    }
    nodes = []
    for name, size in (("k", depth), ("v", columns)):
        given_ |= {f"{name}w": np.array([2, heads, shared, keys, size])}
        given_ |= {f"{name}f": np.array([2, heads * shared, keys, size])}
        nodes += [
            node("Unsqueeze", f"{name}0 two", f"{name}1"),
            node("Expand", f"{name}1 {name}w", f"{name}2"),
            node("Reshape", f"{name}2 {name}f", name),
        ]
    if mask:
        given_["mask"] = numbers(3, 2, 1, queries, keys)
    nodes += attend(mask="mask" if mask else "")
    constants = ("factor", "two", "kw", "kf", "vw", "vf")
    ran = check_nodes(nodes, given_, ["o"], constants=constants, threads=threads, features=features)
    assert is_one_step(ran)
    if shared > 1 and heads > 1:
        assert not any("Expand" in step for step in ran.steps)


@pytest.mark.parametrize("features", FEATURES)
@pytest.mark.parametrize("form", ["stacked", "sliced", "separate"])
def test_heads_are_read_and_written_where_they_lie(form: str, features: str | None) -> None:
    tokens, heads, depth = 37, 3, 16
    width = heads * depth
    given_: dict[str, Array] = {
        "factor": np.array(4.0, np.float32),
        "merged": np.array([2, tokens, width]),
    }
    if form == "separate":
        given_ |= {name: numbers(i, 2, tokens, width) for i, name in enumerate(("x", "y", "z"))}
        given_["split"] = np.array([2, tokens, heads, depth])
        nodes = []
        for name, source in (("q", "x"), ("k", "y"), ("v", "z")):
            nodes += [
                node("Relu", source, source + "r"),
                node("Reshape", f"{source}r split", name + "s"),
                node("Transpose", name + "s", name, perm=[0, 2, 1, 3]),
            ]
    else:
        given_ |= {"x": numbers(0, 2, tokens, 3 * width), "split": np.array([2, tokens, 3, heads, depth])}
        nodes = [
            node("Relu", "x", "xr"),
            node("Reshape", "xr split", "xs"),
            node("Transpose", "xs", "stack", perm=[2, 0, 3, 1, 4]),
        ]
        for i, name in enumerate("qkv"):
            if form == "stacked":
                given_[f"i{i}"] = np.array(i)
                nodes.append(node("Gather", f"stack i{i}", name, axis=0))
            else:
                given_ |= {f"i{i}": np.array([i]), f"e{i}": np.array([i + 1]), "axes": np.array([0])}
                nodes.append(node("Slice", f"stack i{i} e{i} axes", name + "1"))
                nodes.append(node("Squeeze", f"{name}1 axes", name))
    nodes += attend(factor="Div")
    nodes += [node("Transpose", "o", "ot", perm=[0, 2, 1, 3]), node("Reshape", "ot merged", "out")]
    constants = [name for name, array in given_.items() if array.dtype == np.int64] + ["factor"]
    ran = check_nodes(nodes, given_, ["out"], constants=constants, features=features)
    assert is_one_step(ran)
    # nothing is moved but the result to the caller's memory
    assert not any(name in step for step in ran.steps for name in ("Gather", "Slice")), ran.steps
    assert sum("Transpose" in step for step in ran.steps) == 1, ran.steps


@pytest.mark.parametrize("features", FEATURES)
def test_masked_rows_and_values_that_are_no_numbers(features: str | None) -> None:
    given_ = {
        "q": numbers(0, 1, 2, 21, 8),
        "k": numbers(1, 1, 2, 50, 8),
        "v": numbers(2, 1, 2, 50, 24),
        "factor": np.array(0.5, np.float32),
        "mask": np.zeros((21, 50), np.float32),
    }
    given_["mask"][3:9, 20:] = -np.inf
    given_["mask"][11] = -np.inf
    given_["q"][0, 0, 5, 3] = np.nan
    given_["q"][0, 1, 6, 2] = np.inf
    given_["k"][0, 1, 49, 0] = 1e-42
    given_["v"][0, 1, 7, 7] = -np.inf
    check_nodes(attend(mask="mask"), given_, ["o"], constants=("factor",), features=features)


def test_broadcast_stacks() -> None:
    given_ = {
        "q": numbers(0, 2, 3, 9, 8),
        "k": numbers(1, 1, 3, 17, 8),
        "v": numbers(2, 2, 1, 17, 5),
        "factor": np.array(0.5, np.float32),
    }
    assert is_one_step(check_nodes(attend(), given_, ["o"], constants=("factor",)))


LEFT: dict[str, tuple[list[onnx.NodeProto], list[str]]] = {
    "weights wanted too": (attend(), ["o", "p"]),
    "softmax along another axis": (
        [*attend()[:3], node("Softmax", "scaled", "p", axis=-2), node("MatMul", "p v", "o")],
        ["o"],
    ),
    "weights as right operand": (
        [*attend()[:3], node("Softmax", "scaled", "p", axis=-1), node("MatMul", "u p", "o")],
        ["o"],
    ),
    "scores used twice": ([*attend(), node("Relu", "scaled", "r")], ["o", "r"]),
    "divided by the scores": (
        [*attend()[:2], node("Div", "factor s", "scaled"), *attend()[3:]],
        ["o"],
    ),
}


@pytest.mark.parametrize("why", LEFT)
def test_what_is_not_an_attention_is_left(why: str) -> None:
    nodes, outputs = LEFT[why]
    given_ = {
        "q": numbers(0, 1, 2, 9, 8),
        "k": numbers(1, 1, 2, 17, 8),
        "v": numbers(2, 1, 2, 17, 9),
        "u": numbers(2, 1, 2, 5, 9),
        "factor": np.array(0.5, np.float32),
    }
    read = {name for n in nodes for name in n.input}
    ran = check_nodes(nodes, {k: a for k, a in given_.items() if k in read}, outputs, constants=("factor",))
    assert not is_one_step(ran)


def closed_form(
    q: Array, k: Array, v: Array, mask: Array | None, scale: float | None, causal: bool
) -> tuple[Array, Array]:
    """(output, scores seen) of the Attention operator on (B, H, T, D), in float64."""
    wide = [a.astype(np.float64) for a in (q, k, v)]
    repeat = q.shape[1] // k.shape[1]
    keys, values = (np.repeat(a, repeat, axis=1) for a in wide[1:])
    scores = wide[0] @ keys.swapaxes(-1, -2) * (scale or 1 / np.sqrt(q.shape[-1]))
    if causal:
        scores = np.where(np.tri(*scores.shape[-2:], dtype=bool), scores, -np.inf)
    if mask is not None:
        scores = scores + mask
    top = scores.max(-1, keepdims=True)
    weights = np.exp(scores - np.where(np.isneginf(top), 0, top))
    total = weights.sum(-1, keepdims=True)
    found = (weights / np.where(total == 0, 1, total)) @ values
    return found.astype(np.float32), scores


@settings(max_examples=60)
@given(
    batch=st.integers(1, 2),
    groups=st.integers(1, 2),
    shared=st.integers(1, 3),
    queries=st.integers(1, 30),
    keys=st.integers(1, 40),
    depth=st.integers(1, 20),
    columns=st.integers(1, 20),
    flat=st.booleans(),
    masked=st.sampled_from(["", "causal", "rows", "heads", "batch"]),
    scale=st.sampled_from([None, 0.25]),
    features=st.sampled_from(FEATURES),
)
def test_the_operator(
    batch: int,
    groups: int,
    shared: int,
    queries: int,
    keys: int,
    depth: int,
    columns: int,
    flat: bool,
    masked: str,
    scale: float | None,
    features: Any,
) -> None:
    heads = groups * shared
    q, k = numbers(0, batch, heads, queries, depth), numbers(1, batch, groups, keys, depth)
    v = numbers(2, batch, groups, keys, columns)
    shapes = {"rows": (queries, keys), "heads": (heads, queries, keys), "batch": (batch, 1, queries, keys)}
    mask = None
    if masked in shapes:
        mask = numbers(3, *shapes[masked])
        mask[..., 0, :] = -np.inf
    expected, _ = closed_form(q, k, v, mask, scale, masked == "causal")
    attributes: dict[str, Any] = {"is_causal": int(masked == "causal")}
    if scale is not None:
        attributes["scale"] = scale
    inputs: list[Array | None] = [q, k, v]
    if flat:
        inputs = [a.swapaxes(1, 2).reshape(batch, a.shape[2], -1) for a in (q, k, v)]
        attributes |= {"q_num_heads": heads, "kv_num_heads": groups}
        expected = expected.swapaxes(1, 2).reshape(batch, queries, -1)
    if mask is not None:
        inputs.append(mask)
    check_node("Attention", inputs, attributes, 23, features=features, expected=[expected])


@pytest.mark.parametrize(
    ("attributes", "inputs", "reason"),
    [
        ({"softcap": 2.0}, 3, "softcap"),
        ({"softmax_precision": 11}, 3, "float32"),
        ({"is_causal": 1}, 4, "mask of its own"),
        ({"local_window_size": 3}, 3, "local_window_size"),
        ({}, 6, "earlier runs"),
    ],
)
def test_forms_of_the_operator_that_are_declined(attributes: dict[str, Any], inputs: int, reason: str) -> None:
    one = numbers(0, 1, 2, 4, 4)
    given_ = [one, one, one, numbers(1, 4, 4), one, one][:inputs]
    assert reason in rejection("Attention", given_, [one], attributes, 23)


@pytest.mark.parametrize("links", range(1, 7))
@pytest.mark.parametrize("last", ["Softmax", "MatMul"])
def test_attentions_in_a_row_share_no_node(links: int, last: str) -> None:
    """Every product between two Softmax nodes may end one attention or begin the next, not both."""
    feeds = {"p0": numbers(1, 2, 9, 9)} | {f"w{i}": numbers(i + 2, 2, 9, 9) for i in range(1, links + 2)}
    nodes = []
    for i in range(1, links + 1):
        nodes += [node("MatMul", f"p{i - 1} w{i}", f"s{i}"), node("Softmax", f"s{i}", f"p{i}", axis=-1)]
    if last == "MatMul":
        nodes.append(node("MatMul", f"p{links} w{links + 1}", f"p{links + 1}"))
    check_nodes(nodes, feeds, [nodes[-1].output[0]], oracle="onnxruntime")
