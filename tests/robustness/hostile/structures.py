"""Graphs that are none: names, cycles, versions, nesting, functions that call themselves, odd attributes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper

from hostile.bases import BOOL, F32, I64, bases, mixed_model, model_of, value
from hostile.case import Case, of_bytes, of_model

node = helper.make_node


def structure_cases() -> Iterator[Case]:
    """All families of this module."""
    yield from _names()
    yield from _versions()
    yield from _nesting()
    yield from _functions()
    yield from _attributes()
    yield from _bytes()


def _chain(nodes: list[onnx.NodeProto], outputs: tuple[str, ...] = ("y",), **more: Any) -> onnx.ModelProto:
    return model_of(nodes, [value("x", F32, [2, 2])], [value(name) for name in outputs], **more)


def _names() -> Iterator[Case]:
    models = {
        "a node that reads its own output": _chain([node("Add", ["x", "y"], ["y"], name="n")]),
        "a cycle of two": _chain([node("Add", ["x", "y"], ["a"]), node("Neg", ["a"], ["y"])]),
        "a cycle of a thousand": _chain(
            [node("Add", ["x", f"v{i - 1 if i else 999}"], [f"v{i}"], name=f"n{i}") for i in range(1000)], ("v999",)
        ),
        "an input that nothing defines": _chain([node("Add", ["x", "ghost"], ["y"], name="n")]),
        "an output that nothing defines": _chain([node("Neg", ["x"], ["z"])]),
        "two nodes with one output": _chain([node("Neg", ["x"], ["y"]), node("Abs", ["x"], ["y"])]),
        "a node that writes an input": _chain([node("Neg", ["x"], ["x"]), node("Abs", ["x"], ["y"])]),
        "one output twice in a node": _chain([node("Split", ["x"], ["y", "y"], num_outputs=2)]),
        "two nodes with one name": _chain([node("Neg", ["x"], ["a"], name="n"), node("Abs", ["a"], ["y"], name="n")]),
        "empty names": _chain([node("Neg", [""], [""], name="")]),
        "an empty operator": _chain([node("", ["x"], ["y"], name="n")]),
        "no nodes": _chain([]),
        "no outputs": _chain([node("Neg", ["x"], ["y"])], ()),
        "no inputs to a node": _chain([node("Neg", [], ["y"], name="n")]),
        "no outputs of a node": _chain([node("Neg", ["x"], [], name="n")]),
        "too many inputs": _chain([node("Neg", ["x"] * 5000, ["y"], name="n")]),
        "too many outputs": _chain([node("Neg", ["x"], [f"y{i}" for i in range(5000)], name="n")], ("y0",)),
        "an input left out": _chain([node("Conv", ["x", ""], ["y"], name="n")]),
        "a name of 100,000 letters": _chain([node("Gemm", ["x"], ["y"], name="n" * 100_000)]),
        "an operator of 100,000 letters": _chain([node("O" * 100_000, ["x"], ["y"], name="n")]),
        "control characters": _chain([node("Gemm\n\x1b[31m", ["x"], ["y"], name="\r\n\0\x07")]),
        "markup": _chain([node("[bold]Gemm[/]", ["x"], ["y"], name="{0} %s [link]")]),
        "a name written from right to left": _chain([node("Gemm", ["x"], ["y"], name="\u202etxt.exe")]),
        "an unknown operator": _chain([node("Frobnicate", ["x"], ["y"], name="n")]),
        "an unknown domain": _chain([node("Relu", ["x"], ["y"], name="n", domain="com.nobody")]),
        "the domain of a vendor": _chain([node("NoSuchOp", ["x"], ["y"], name="n", domain="com.microsoft")]),
        "training": _chain([node("Adam", ["x"] * 4, ["y"], name="n", domain="ai.onnx.preview.training")]),
    }
    two_inputs = _chain([node("Neg", ["x"], ["y"])])
    two_inputs.graph.input.append(value("x", I64, [3]))
    models["two inputs of one name"] = two_inputs
    untyped = _chain([node("Neg", ["x"], ["y"])])
    untyped.graph.input[0].ClearField("type")
    models["an input without a type"] = untyped
    for kind in ("sequence_type", "optional_type", "map_type", "sparse_tensor_type"):
        odd = _chain([node("Neg", ["x"], ["y"], name="n")])
        odd.graph.input[0].type.Clear()
        getattr(odd.graph.input[0].type, kind).SetInParent()
        models[f"an input of an empty {kind}"] = odd
    lying = _chain([node("Neg", ["x"], ["y"], name="n")])
    lying.graph.output[0].CopyFrom(value("y", I64, [7, 7, 7]))
    models["an output declared as something else"] = lying
    lying_inside = _chain([node("Neg", ["x"], ["a"], name="n"), node("Abs", ["a"], ["y"])])
    lying_inside.graph.value_info.append(value("a", TensorProto.STRING, [9]))
    models["a value declared as something else"] = lying_inside
    for name, model in models.items():
        yield of_model("names and edges", name, model)


def _versions() -> Iterator[Case]:
    for version in (-1, 0, 1, 6, 27, 100, 2**31 - 1, 2**63 - 1, -(2**63)):
        yield of_model("opsets", f"opset {version}", _chain([node("Relu", ["x"], ["y"], name="n")], opset=version))
    bare = _chain([node("Relu", ["x"], ["y"])])
    del bare.opset_import[:]
    yield of_model("opsets", "none", bare)
    for ir in (-1, 0, 1, 2, 3, 99, 2**63 - 1):
        model = _chain([node("Relu", ["x"], ["y"])])
        model.ir_version = ir
        yield of_model("opsets", f"IR version {ir}", model)
    twice = _chain([node("Relu", ["x"], ["y"])])
    twice.opset_import.append(helper.make_opsetid("ai.onnx", 9))
    yield of_model("opsets", "two of one domain", twice)
    yield of_model("opsets", "none for a domain in use", _chain([node("Scaler", ["x"], ["y"], domain="ai.onnx.ml")]))
    empty = onnx.ModelProto(ir_version=10)
    yield of_model("opsets", "no graph", empty)
    empty.graph.SetInParent()
    yield of_model("opsets", "an empty graph", empty)


def _nesting() -> Iterator[Case]:
    for depth in (5, 20, 30, 60, 200, 2000):
        yield of_bytes("nested graphs", f"{depth} Ifs deep", lambda depth=depth: _nested_ifs(depth))
        yield of_bytes("nested graphs", f"{depth} Loops deep", lambda depth=depth: _nested_loops(depth))
    yield of_model("nested graphs", "an If without branches", _chain([node("If", ["c"], ["y"], name="n")]))
    for count in (0, 1, 3):
        outputs = [value(f"o{i}") for i in range(count)]
        nodes = [node("Relu", ["x"], [f"o{i}"]) for i in range(count)]
        branch = helper.make_graph(nodes, "b", [], outputs)
        chosen = node("If", ["c"], ["y", "z"], name="n", then_branch=branch, else_branch=branch)
        model = model_of([chosen], [value("x", F32, [2]), value("c", BOOL, [])], [value("y"), value("z")])
        yield of_model("nested graphs", f"branches of {count} outputs for an If of 2", model)
    for inputs in (0, 1, 5):
        body = helper.make_graph([], "b", [value(f"i{k}", BOOL, []) for k in range(inputs)], [value("i0", BOOL, [])])
        loop = node("Loop", ["t", "", "x"], ["y"], name="n", body=body)
        model = model_of([loop], [value("x", F32, [2])], [value("y")], {"t": np.int64(2)})
        yield of_model("nested graphs", f"a loop body of {inputs} inputs", model)
        scan = node("Scan", ["x"], ["y"], name="n", body=body, num_scan_inputs=7)
        yield of_model("nested graphs", f"a scan body of {inputs} inputs", _chain([scan]))
    for depth in (60, 99, 150, 5000, 100_000):
        yield of_bytes("nested messages", f"types {depth} deep", lambda depth=depth: _nested_types(depth))


def _nested_ifs(depth: int) -> bytes:
    """Built as bytes: protobuf's own parsers would not take a message that deep."""
    branch = _message(1, node("Relu", ["x"], ["b"]).SerializeToString()) + _message(12, value("b").SerializeToString())
    for _ in range(depth):
        attributes = b"".join(
            _message(5, _message(1, name) + b"\xa0\x01\x05" + _message(6, branch))
            for name in ((b"then_branch", b"else_branch") if depth < 10 else (b"then_branch",))
        )
        chosen = node("If", ["c"], ["b"]).SerializeToString() + attributes
        branch = _message(1, chosen) + _message(12, value("b").SerializeToString())
    inputs = _message(11, value("x", F32, [2]).SerializeToString()) + _message(
        11, value("c", BOOL, []).SerializeToString()
    )
    return _model_around(branch + inputs)


def _nested_loops(depth: int) -> bytes:
    """Each turns once: with two turns each, what is run would double with every level."""
    signature = b"".join(_message(11, v.SerializeToString()) for v in (value("t", I64, []), value("g", BOOL, [])))
    ends = _message(12, value("g", BOOL, []).SerializeToString())
    carried = _message(11, value("v").SerializeToString()) + _message(12, value("w").SerializeToString())
    body = _message(1, node("Relu", ["v"], ["w"]).SerializeToString()) + signature + ends + carried
    for _ in range(depth):
        attribute = _message(5, _message(1, b"body") + b"\xa0\x01\x05" + _message(6, body))
        loop = node("Loop", ["once", "", "v"], ["w"]).SerializeToString() + attribute
        body = _message(1, loop) + signature + ends + carried
    outer = node("Loop", ["once", "", "x"], ["y"], name="outer").SerializeToString()
    outer += _message(5, _message(1, b"body") + b"\xa0\x01\x05" + _message(6, body))
    once = _message(5, onnx.numpy_helper.from_array(np.int64(1), "once").SerializeToString())
    ports = _message(11, value("x", F32, [2]).SerializeToString()) + _message(12, value("y").SerializeToString())
    return _model_around(_message(1, outer) + once + ports)


def _nested_types(depth: int) -> bytes:
    kind = value("x").type.SerializeToString()
    for _ in range(depth):
        kind = _message(4, _message(1, kind))  # a sequence of it
    odd = _message(1, b"x") + _message(2, kind)
    return _model_around(_message(1, node("Identity", ["x"], ["y"]).SerializeToString()) + _message(11, odd))


def _model_around(graph: bytes) -> bytes:
    return b"\x08\x0a" + _message(8, helper.make_opsetid("", 21).SerializeToString()) + _message(7, graph)


def _message(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number >= 0x80:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def _functions() -> Iterator[Case]:
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("local", 1)]

    def function(name: str, *called: str, inputs: tuple[str, ...] = ("a",)) -> onnx.FunctionProto:
        names = ["a", *(f"v{i}" for i in range(len(called) - 1)), "b"]
        nodes = [
            node(op, [names[i]], [names[i + 1]], domain="" if op == "Neg" else "local") for i, op in enumerate(called)
        ]
        return helper.make_function("local", name, list(inputs), ["b"], nodes, imports)

    def model(op: str, *functions: onnx.FunctionProto) -> onnx.ModelProto:
        return _chain([node(op, ["x"], ["y"], name="call", domain="local")], functions=list(functions))

    models = {
        "calls itself": model("F", function("F", "F")),
        "two call each other": model("F", function("F", "G"), function("G", "F")),
        "a ring of fifty": model("F0", *(function(f"F{i}", f"F{(i + 1) % 50}") for i in range(50))),
        "a chain of fifty": model("F0", *(function(f"F{i}", f"F{i + 1}") for i in range(50)), function("F50", "Neg")),
        "a chain of a thousand": model(
            "F0", *(function(f"F{i}", f"F{i + 1}") for i in range(1000)), function("F1000", "Neg")
        ),
        "doubling fourteen times": model(
            "F0", *(function(f"F{i}", f"F{i + 1}", f"F{i + 1}") for i in range(14)), function("F14", "Neg")
        ),
        "doubling sixty times": model(
            "F0", *(function(f"F{i}", f"F{i + 1}", f"F{i + 1}") for i in range(60)), function("F60", "Neg")
        ),
        "doubling sixty times around nothing": model(
            "F0",
            *(
                helper.make_function(
                    "local", f"F{i}", [], [], [node(f"F{i + 1}", [], [], domain="local")] * 2 if i < 60 else [], imports
                )
                for i in range(61)
            ),
        ),
        "missing": model("F"),
        "defined twice": model("F", function("F", "Neg"), function("F", "Neg")),
        "without a body": model("F", function("F")),
        "more inputs than given": model("F", function("F", "Neg", inputs=("a", "c", "d"))),
        "fewer inputs than given": model("F", function("F", "Neg", inputs=())),
        "one input twice": model("F", function("F", "Neg", inputs=("a", "a"))),
        "a name of a standard operator": _chain(
            [node("Neg", ["x"], ["y"])],
            functions=[helper.make_function("", "Neg", ["a"], ["b"], [node("Neg", ["a"], ["b"])], imports)],
        ),
    }
    other = function("F", "Neg")
    other.opset_import[0].version = 1
    models["another opset"] = model("F", other)
    bare = function("F", "Neg")
    del bare.opset_import[:]
    models["no opset"] = model("F", bare)
    references = function("F", "Neg")
    referring = references.node[0].attribute.add(name="alpha", ref_attr_name="nothing", type=AttributeProto.FLOAT)
    assert referring.ref_attr_name
    models["a reference to no attribute"] = model("F", references)
    for name, made in models.items():
        yield of_model("functions", name, made)


ODD_ATTRIBUTES: dict[str, tuple[str, dict[str, Any]]] = {
    "perm as a text": ("Transpose", {"perm": "abc"}),
    "perm beyond the rank": ("Transpose", {"perm": [0, 9]}),
    "perm negative": ("Transpose", {"perm": [-1, 0]}),
    "axis at the end of the numbers": ("Softmax", {"axis": 2**63 - 1}),
    "axis at their beginning": ("Softmax", {"axis": -(2**63)}),
    "axis as a float": ("Softmax", {"axis": 1.5}),
    "alpha as NaN": ("LeakyRelu", {"alpha": float("nan")}),
    "alpha as a list": ("LeakyRelu", {"alpha": [1.0, 2.0]}),
    "an unknown attribute": ("Relu", {"color": 3}),
    "cast to no type": ("Cast", {"to": 0}),
    "cast to a type of the future": ("Cast", {"to": 2**31}),
    "cast to a text": ("Cast", {"to": TensorProto.STRING}),
    "no cast target": ("Cast", {}),
    "flatten far away": ("Flatten", {"axis": 2**40}),
    "a mode of its own": ("DepthToSpace", {"mode": "sideways", "blocksize": 2}),
    "blocks of none": ("DepthToSpace", {"blocksize": 0}),
    "blocks of a billion": ("SpaceToDepth", {"blocksize": 10**9}),
    "negative blocks": ("SpaceToDepth", {"blocksize": -2}),
    "epsilon as NaN": ("LpNormalization", {"p": 0}),
    "an eye of another type": ("EyeLike", {"dtype": 99}),
    "an eye far off": ("EyeLike", {"k": 2**63 - 1}),
    "hardmax out of range": ("Hardmax", {"axis": 77}),
    "a graph that is none": ("Relu", {"alpha": helper.make_graph([], "g", [], [])}),
    "gather nothing": ("ReduceSum", {"keepdims": 2**40}),
    "a seed": ("RandomNormalLike", {"seed": float("nan"), "scale": float("inf"), "dtype": 77}),
    "einsum of nonsense": ("Einsum", {"equation": "ij,jk->"}),
    "einsum of text": ("Einsum", {"equation": "…\x00"}),
    "einsum of many axes": ("Einsum", {"equation": "ab->" + "ab" * 500}),
}
"""What is wrong -> operator and attributes."""

ODD_WINDOWS: dict[str, dict[str, Any]] = {
    "a window of none": {"kernel_shape": [0, 0]},
    "a negative window": {"kernel_shape": [-3, -3]},
    "a window of a billion": {"kernel_shape": [10**9, 10**9]},
    "a window at the end of the numbers": {"kernel_shape": [2**63 - 1, 1]},
    "a stride of none": {"kernel_shape": [1, 1], "strides": [0, 0]},
    "a negative stride": {"kernel_shape": [1, 1], "strides": [-1, 1]},
    "a stride of a billion": {"kernel_shape": [1, 1], "strides": [2**62, 2**62]},
    "pads of a billion": {"kernel_shape": [3, 3], "pads": [10**9] * 4},
    "pads that overflow": {"kernel_shape": [3, 3], "pads": [2**63 - 1] * 4},
    "negative pads": {"kernel_shape": [3, 3], "pads": [-9] * 4},
    "pads for one axis": {"kernel_shape": [3, 3], "pads": [1, 1]},
    "dilations of none": {"kernel_shape": [3, 3], "dilations": [0, 0]},
    "dilations that overflow": {"kernel_shape": [3, 3], "dilations": [2**62, 2**62]},
    "another padding": {"kernel_shape": [3, 3], "auto_pad": "SOMEHOW"},
}
"""What is wrong -> attributes of pools and convolutions."""


def _attributes() -> Iterator[Case]:
    for name, (op, attributes) in ODD_ATTRIBUTES.items():
        yield of_model("attributes", name, _chain([node(op, ["x"], ["y"], name="n", **attributes)]))
    yield from _windows()
    for kind in (0, 15, 99, 2**31 - 1):
        model = _chain([node("Softmax", ["x"], ["y"], name="n", axis=1)])
        content = model.SerializeToString().replace(b"\xa0\x01\x02", b"\xa0\x01" + _varint(kind))
        yield of_model("attributes", f"of kind {kind}", content)


def _windows() -> Iterator[Case]:
    for op in ("MaxPool", "AveragePool", "LpPool", "Conv", "ConvTranspose"):
        for name, attributes in ODD_WINDOWS.items():
            operands = ["x", "w"] if op.startswith("Conv") else ["x"]
            constants: dict[str, object] = {"w": np.ones((1, 1, 3, 3), np.float32)} if len(operands) > 1 else {}
            made = node(op, operands, ["y"], name="n", **attributes)
            model = model_of([made], [value("x", F32, [1, 1, 8, 8])], [value("y")], constants)
            yield of_model("windows", f"{op}: {name}", model)
    empty = node("MaxPool", ["x"], ["y"], name="n")
    empty.attribute.append(helper.make_attribute("kernel_shape", [], attr_type=AttributeProto.INTS))
    yield of_model("windows", "MaxPool: no window", model_of([empty], [value("x", F32, [1, 1, 8, 8])], [value("y")]))
    for group in (0, -1, 3, 2**62):
        made = node("Conv", ["x", "w"], ["y"], name="n", group=group)
        constants = {"w": np.ones((2, 2, 3, 3), np.float32)}
        yield of_model(
            "windows",
            f"Conv in {group} groups",
            model_of([made], [value("x", F32, [1, 2, 8, 8])], [value("y")], constants),
        )


def _bytes() -> Iterator[Case]:
    """Files that are something else, and names that are no text."""
    contents = {
        "empty": b"",
        "a newline": b"\n",
        "zeros": bytes(1000),
        "ones": b"\xff" * 1000,
        "a picture": b"\x89PNG\r\n\x1a\n" + bytes(100),
        "an archive": b"PK\x03\x04" + bytes(100),
        "text": b"This is not a model.\n" * 50,
        "json": b'{"graph": {}}',
        "a length of 2**63": b"\x3a" + b"\xff" * 8 + b"\x7f",
        "a length of 2 GB": b"\x3a\xff\xff\xff\xff\x07" + bytes(64),
        "a number without end": b"\x08" + b"\xff" * 100,
        "groups": b"\x3b" * 200_000,
        "a million empty nodes": _model_around(b"\x0a\x00" * 1_000_000),
        "a million tensors": _model_around(b"\x2a\x00" * 1_000_000),
        "two models in one": bases()["mixed"] + bases()["mixed"],
        "a model and zeros": bases()["mixed"] + bytes(100),
    }
    for name, content in contents.items():
        yield of_model("other files", name, content)
    good = mixed_model().SerializeToString()
    for name in (b"relu", b"conv", b"chosen", b"Resize", b"hostile", b"kernel_shape", b"Twice", b"local", b"carried"):
        yield of_model("text that is not UTF-8", name.decode(), good.replace(name, b"\xff" * len(name)))
        yield of_model("text that is not UTF-8", f"{name.decode()} once", good.replace(name, b"\xc3" * len(name), 1))
