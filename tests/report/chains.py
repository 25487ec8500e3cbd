"""Small models of any length, profiled."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import TensorProto, helper

from mace_core import Session
from mace_core.report import ModelProfile, measure
from mace_core.report.liveness import liveness
from mace_core.report.model_facts import ModelFacts
from mace_core.report.wiring import wire
from mace_core.scheduler.explain import Explanation, NodeExplanation, PartitionExplanation
from mace_core.scheduler.profile import Part, Profile, Span

HOSTILE = "</script><img src=x onerror=\"alert('name')\"><!--${alert(1)}\u2028'\"&lt;b>"
"""A name that tries to be markup, a program, or the end of one."""


def chain(
    count: int, *, name: str = "n{}", op: Callable[[int], str] = lambda i: ("Sigmoid", "Tanh", "Abs")[i % 3]
) -> onnx.ModelProto:
    """``count`` nodes in a row of float32 [4, 4]; every seventh also reads what was computed ten nodes before."""
    nodes, values = [], ["x"]
    for i in range(count):
        reads = [values[-1], values[max(0, i - 10)]] if i % 7 == 3 else [values[-1]]
        values.append(f"v{i}" if i < count - 1 else "y")
        nodes.append(helper.make_node("Add" if len(reads) == 2 else op(i), reads, values[-1:], name=name.format(i)))
    ends = [[helper.make_tensor_value_info(each, TensorProto.FLOAT, [4, 4])] for each in ("x", "y")]
    graph = helper.make_graph(nodes, "chain", *ends)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def profiled(model: onnx.ModelProto, label: str = "chain.onnx", runs: int = 2) -> ModelProfile:
    """On the reference provider, which every machine has."""
    feeds = {"x": np.linspace(-1, 1, 16, dtype=np.float32).reshape(4, 4)}
    with Session(model, devices=["reference"]) as session:
        return measure(session, model, feeds, runs=runs, warmup=1, label=label)


def laid_down(count: int) -> ModelProfile:
    """What the profile of such a chain would be on two workers, without the minutes that so many nodes take."""
    nodes = []
    for i in range(count):
        reads = ("x",) if not i else (f"v{i - 1}", *((f"v{i - 11}",) if i % 7 == 3 and i > 10 else ()))
        nodes.append(
            NodeExplanation(
                f"n{i}", "Add" if len(reads) > 1 else "Abs", "cpu:0", "first choice", {}, "", 0, "", (f"n{i}",), reads,
                (f"v{i}",),
            )
        )  # fmt: skip
    profile = Profile(start_ns=0, end_ns=1000 * count)
    for i in range(count):
        where = ("Abs", (f"n{i}",), "cpu:0", 1000 * i, 1000 * i + 900 + i % 90)
        profile.spans.append(Span(*where))
        profile.parts += [Part(f"worker {number}", *where) for number in range(2)]
    explanation = Explanation("x: float32[4, 4]", nodes, devices={"cpu:0": "a processor"})
    explanation.partitions.append(PartitionExplanation("cpu:0", tuple(node.node for node in nodes), ""))
    operators = {node.node: node.op for node in nodes}
    facts = ModelFacts(operators=operators, nbytes={f"v{i}": 64 for i in range(count)} | {"x": 64})
    wiring = wire(nodes)
    memory = liveness(profile, wiring, facts.nbytes, ["x"], [f"v{count - 1}"])
    return ModelProfile(
        "long.onnx", (count / 1e6,), (profile,), explanation, facts, {}, wiring, memory, ((0, 1 << 20),), ((0, "load"),)
    )
