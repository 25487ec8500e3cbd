"""Nodes know the layer of the user's own model that they come from, as the exporters of frameworks write it."""

from __future__ import annotations

from pathlib import Path

import onnx
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from mace_core.frontend import load_model
from mace_core.frontend.onnx.export import save_onnx
from mace_core.graph import Origin
from mace_core.graph.copying import copy_graph
from mace_core.graph.serialize import dump_graph, graph_fingerprint, load_graph

TORCH = {  # of torch 2.13's export of a batch normalization within a block within a container
    "namespace": ": net.Net/layers: torch.nn.modules.container.Sequential/layers.0: net.Block",
    "pkg.torch.onnx.class_hierarchy": "['net.Net', 'torch.nn.modules.container.Sequential', 'net.Block', "
    "'torch.nn.modules.batchnorm.BatchNorm2d', 'aten._native_batch_norm_legit_no_training.default']",
    "pkg.torch.onnx.name_scopes": "['', 'layers', 'layers.0', 'layers.0.norm', '_native_batch_norm_legit_no_training']",
    "pkg.torch.onnx.stack_trace": 'File "/home/me/net.py", line 15, in forward\n    x=s.layers(s.stem(x))\n'
    '  File "/venv/lib/python3.11/site-packages/torch/nn/modules/container.py", line 253, in forward\n'
    '    input = module(input)\n  File "/home/me/net.py", line 7, in forward\n'
    "    return torch.relu(s.norm(s.conv(x)))+x\n"
    '  File "/venv/lib/python3.11/site-packages/torch/nn/modules/batchnorm.py", line 210, in forward\n'
    "    return F.batch_norm(",
}
NORM = Origin(
    "layers.0.norm", "torch.nn.modules.batchnorm.BatchNorm2d", "/home/me/net.py", 7,
    "return torch.relu(s.norm(s.conv(x)))+x",
)  # fmt: skip


def model(name: str, metadata: dict[str, str], producer: str = "", doc: str = "") -> onnx.ModelProto:
    node = helper.make_node("Relu", ["x"], ["y"], name=name, doc_string=doc)
    for key, value in metadata.items():
        node.metadata_props.add(key=key, value=value)
    ends = [helper.make_tensor_value_info(end, TensorProto.FLOAT, [2]) for end in "xy"]
    graph = helper.make_graph([node], "one", ends[:1], ends[1:])
    return helper.make_model(graph, producer_name=producer, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def origin(proto: onnx.ModelProto) -> Origin | None:
    graph = load_model(proto)
    return graph.origin_of(graph.nodes[0])


def test_the_metadata_of_torch_tells_the_module_and_the_users_own_line() -> None:
    found = origin(model("node_Conv_23", TORCH, "pytorch"))
    assert found == NORM
    assert str(found) == "layer 'layers.0.norm' (BatchNorm2d), net.py:7 `return torch.relu(s.norm(s.conv(x)))+x`"


def test_the_older_exporter_of_torch_tells_the_module_in_the_nodes_name() -> None:
    assert origin(model("/layer1/layer1.0/conv1/Conv", {}, "pytorch")) == Origin("layer1.0.conv1")
    calls = (
        "/venv/site-packages/torch/nn/conv.py(447): _forward",
        "/home/me/net.py(12): forward",
        "run.py(3): <module>",
    )
    doc = "\n".join(calls)
    assert origin(model("/fc/Gemm", {}, "pytorch", doc)) == Origin("fc", "", "/home/me/net.py", 12)
    assert origin(model("Conv_0", {}, "pytorch")) is None


def test_names_of_tf2onnx_are_paths_of_layers() -> None:
    assert origin(model("StatefulPartitionedCall/net/first/Conv2D", {}, "tf2onnx")) == Origin("net/first")


def test_a_name_of_another_exporter_says_nothing() -> None:
    assert origin(model("a/b/Conv", {}, "paddle2onnx")) is None


def test_origins_survive_a_conversion_the_cache_and_a_copy(tmp_path: Path) -> None:
    graph = load_model(model("n", TORCH))
    save_onnx(graph, tmp_path / "again.onnx")
    for again in (load_model(tmp_path / "again.onnx"), load_graph(dump_graph(graph)), copy_graph(graph)[0]):
        assert again.origin_of(again.nodes[0]) == NORM


def test_a_node_that_stands_for_others_has_the_origin_of_the_first_known() -> None:
    graph = load_model(model("n", TORCH))
    graph.nodes[0].name, graph.nodes[0].source = "fused", ("unknown", "n")
    assert graph.origin_of(graph.nodes[0]) == NORM


def test_where_a_model_comes_from_does_not_change_what_it_is() -> None:
    one, other = load_model(model("n", TORCH)), load_model(model("n", {}))
    assert graph_fingerprint(one) == graph_fingerprint(other)


@given(st.dictionaries(st.sampled_from([*TORCH, "mace.module", "mace.place", "mace.code"]), st.text(max_size=60)))
def test_any_text_may_stand_there(metadata: dict[str, str]) -> None:
    proto = model("n", {key: value.encode("utf-8", "replace").decode() for key, value in metadata.items()}, "pytorch")
    found = origin(proto) or Origin()
    assert found.line >= 0
    assert str(found).isprintable()
