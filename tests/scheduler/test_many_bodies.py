"""A model of many control-flow nodes takes time in proportion to their number, counted in calls, not seconds."""

from __future__ import annotations

import cProfile
import pstats

import onnx
import pytest
from onnx import TensorProto, helper

from mace_core import Session

F32, BOOL, I64 = TensorProto.FLOAT, TensorProto.BOOL, TensorProto.INT64


def value(name: str, kind: int, shape: list[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def choice(i: int, source: str) -> onnx.NodeProto:
    def branch(op: str, name: str) -> onnx.GraphProto:
        return helper.make_graph([helper.make_node(op, [source], [name])], name, [], [value(name, F32, [4])])

    then, other = branch("Abs", f"t{i}"), branch("Neg", f"e{i}")
    return helper.make_node("If", ["c"], [f"v{i}"], then_branch=then, else_branch=other)


def turns(i: int, source: str) -> onnx.NodeProto:
    nodes = [helper.make_node("Abs", [f"a{i}"], [f"b{i}"]), helper.make_node("Identity", [f"ci{i}"], [f"co{i}"])]
    inputs = [value(f"it{i}", I64, []), value(f"ci{i}", BOOL, []), value(f"a{i}", F32, [4])]
    body = helper.make_graph(nodes, f"body{i}", inputs, [value(f"co{i}", BOOL, []), value(f"b{i}", F32, [4])])
    return helper.make_node("Loop", ["m", "c", source], [f"v{i}"], body=body)


def calls_to_open(kind: str, count: int) -> int:
    """Python calls that it takes to open a chain of so many."""
    make = {"If": choice, "Loop": turns}[kind]
    nodes = [make(i, f"v{i - 1}" if i else "x") for i in range(count)]
    inputs = [value("x", F32, [4]), value("c", BOOL, []), value("m", I64, [])]
    graph = helper.make_graph(nodes, "chain", inputs, [value(f"v{count - 1}", F32, [4])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=8)
    profile = cProfile.Profile()
    profile.enable()
    Session(model, cache=False, devices=["cpu"]).close()
    profile.disable()
    return int(pstats.Stats(profile).total_calls)  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["If", "Loop"])
def test_opening_many_takes_work_in_proportion(kind: str) -> None:
    calls_to_open(kind, 2)  # what is loaded or compiled once
    one, two = calls_to_open(kind, 60), calls_to_open(kind, 120)
    assert two < 2.2 * one
