"""Signatures, which name a subgraph's inputs and outputs, and what else a file says about itself."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from lite_models import LiteModel

import mace_core as mace
from mace_core.errors import ModelError, UsageError
from mace_core.frontend.load import load_model
from mace_core.testing.models import find_packaged_model


def signature(model: LiteModel, key: str, subgraph: int, inputs: dict[str, int], outputs: dict[str, int]) -> None:
    made = schema.SignatureDefT()
    made.signatureKey, made.subgraphIndex = key.encode(), subgraph
    made.inputs, made.outputs = [], []
    for side, names in ((made.inputs, inputs), (made.outputs, outputs)):
        for name, number in names.items():
            entry = schema.TensorMapT()
            entry.name, entry.tensorIndex = name.encode(), number
            side.append(entry)
    model.table.signatureDefs = [*(model.table.signatureDefs or []), made]


def two_graphs() -> bytes:
    """`double` and `square` of one file; the names of tensors are not those of the signatures."""
    model = LiteModel()
    for key, kind in (("double", "ADD"), ("square", "MUL")):
        g = model.graph(key)
        x, y = g.input("tensor_a", (3,)), g.output("tensor_b", (3,))
        g.op(kind, [x, x], [y], f"{kind.capitalize()}Options")
        signature(model, key, len(model.graphs) - 1, {"value": x}, {f"{key}d": y})
    return model.bytes()


def test_inputs_and_outputs_have_the_names_of_the_signature() -> None:
    with mace.Session(two_graphs(), devices=["cpu"]) as session:
        assert [spec.name for spec in (*session.inputs, *session.outputs)] == ["value", "doubled"]


def test_a_signature_is_chosen(tmp_path: Path) -> None:
    path = tmp_path / "two.tflite"
    path.write_bytes(two_graphs())
    x = np.float32([1, 2, 3])
    for _ in range(2):  # the second time from the cache
        for key, name, expected in (("square", "squared", x * x), ("double", "doubled", x + x)):
            with mace.Session(path, devices=["cpu"], signature=key) as session:
                assert np.array_equal(session.run({"value": x})[name], expected)


def test_an_unknown_signature_names_those_there_are() -> None:
    with pytest.raises(ModelError, match="has no signature 'triple'; it has 'double', 'square'"):
        load_model(two_graphs(), signature="triple")


def test_other_formats_have_no_signatures() -> None:
    model = find_packaged_model("basic-pitch", "saved_models/icassp_2022/nmp.onnx")
    with pytest.raises(UsageError, match="onnx has no signatures"):
        load_model(model, signature="serving_default")


def test_an_output_may_be_an_input_or_stand_twice() -> None:
    model = LiteModel()
    g = model.graph()
    x, y = g.input("x", (3,)), g.output("y", (3,))
    g.op("ADD", [x, x], [y], "AddOptions")
    g.table.outputs += [x, y]
    with mace.Session(model.bytes(), devices=["cpu"]) as session:
        results = list(session.run({"x": np.float32([1, 2, 3])}).values())
    assert [list(result) for result in results] == [[2, 4, 6], [1, 2, 3], [2, 4, 6]]


def test_what_the_file_says_about_itself_is_in_the_metadata(tmp_path: Path) -> None:
    """Labels lie in a zip archive behind the model."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("labels.txt", "cat\ndog\n")
        archive.writestr("noise.bin", bytes(range(256)))
        archive.writestr("mace.state", "{}")
    model = two_graphs() + content.getvalue()
    path = tmp_path / "labelled.tflite"
    path.write_bytes(model)
    for graph in (load_model(path), load_model(model)):
        assert graph.metadata["labels.txt"] == "cat\ndog\n"
        assert graph.metadata["noise.bin"] == "(256 bytes)"
        assert "mace.state" not in graph.metadata, "names that mean something here are no file's"
        assert graph.metadata["tflite.description"] == "made by a test"
        assert json.loads(graph.metadata["tflite.signatures"])["square"] == {
            "inputs": ["value"],
            "outputs": ["squared"],
        }


def test_a_damaged_archive_does_not_keep_the_model_from_being_read() -> None:
    model = two_graphs() + b"PK\x05\x06" + bytes(40)
    assert load_model(model).outputs[0].name == "doubled"
