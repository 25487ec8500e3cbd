"""What MACE's own reader takes is read: texts for lists, ON and OFF, variables, old spellings, keys in two places."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mace_core.deployment.read import deployment_of
from mace_core.deployment.schema import Deployment, GraphKeys
from mace_core.deployment.values import ranges, shapes
from mace_core.deployment.yaml_tree import ConfigError, parse_document

MODEL = """
library_name: squeeze
target_abis: armeabi-v7a,arm64-v8a
target_socs: sdm660
build_type: code
embed_model_data: 1
models:
  squeeze:
    platform: ONNX
    model_file_path: ${MODELS}/squeeze.onnx
    model_sha256_checksum: 0000000000000000000000000000000000000000000000000000000000000000
    subgraphs:
      - input_tensors: data:0
        input_shapes: 1, 227, 227, 3
        output_tensors: [0, 26]
        output_shapes: ["1,1,1,1000", "1,2"]
        input_ranges: -1.0,1.0
        validation_threshold: {dsp: 0.9, CPU: 0.99}
        backend: caffe
    runtime: hexagon
    dsp_mode: 0
    obfuscate: ON
    quantize: off
    limit_opencl_kernel_time: 1
    validation_outputs_data:
"""


def read(text: str, **variables: str) -> tuple[Deployment, list[str]]:
    document = parse_document(text, "f.yml", variables)
    return deployment_of(document), document.notes


def graph(text: str = MODEL, name: str = "default_graph") -> GraphKeys:
    deployment, _ = read(text, MODELS="/models")
    return deployment.models["squeeze"].subgraphs[name]


def test_a_file_with_every_quirk() -> None:
    deployment, notes = read(MODEL, MODELS="/models")
    model, keys = deployment.models["squeeze"], graph()
    assert deployment.target_abis == ("armeabi-v7a", "arm64-v8a")
    assert (deployment.target_socs, deployment.model_graph_format, deployment.model_data_format) == (
        ("sdm660",),
        "code",
        "code",
    )
    assert (model.platform, model.model_file_path, model.obfuscate) == ("onnx", "/models/squeeze.onnx", True)
    assert model.model_sha256_checksum == "0" * 64
    assert (keys.input_tensors, keys.input_shapes) == (("data:0",), ((1, 227, 227, 3),))
    assert (keys.output_tensors, keys.output_shapes) == (("0", "26"), ((1, 1, 1, 1000), (1, 2)))
    assert (keys.ranges, keys.formats("input")) == (((-1.0, 1.0),), ("NHWC",))
    assert keys.validation_threshold == {"hexagon": 0.9, "cpu": 0.99}
    assert (keys.runtime, keys.quantize) == ("dsp", False)
    assert [note.partition(": ")[2] for note in notes] == [
        "'build_type' is an old spelling; read as 'model_graph_format: code'",
        "'embed_model_data' is an old spelling; read as 'model_data_format: code'",
        "'validation_outputs_data' has no value, as if it were not there",
    ]


def test_a_mapping_of_graphs_takes_what_the_model_says_and_its_own_first() -> None:
    text = MODEL.replace(
        "      - input_tensors: data:0\n", "      first:\n        runtime: cpu\n        input_tensors: data\n"
    )
    assert graph(text, "first").runtime == "cpu"


@pytest.mark.parametrize("word", ["ON", "on", "1", "true", "yes", "On"])
def test_switches_are_words_and_numbers(word: str) -> None:
    assert graph(MODEL.replace("quantize: off", f"quantize: {word}")).quantize is True


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1,224,224,3", ((1, 224, 224, 3),)),
        (["1, 224, 224, 3"], ((1, 224, 224, 3),)),
        (["1", "224", "224", "3"], ((1, 224, 224, 3),)),
        ([["1", "224"], ["7"]], ((1, 224), (7,))),
        ("1x3x224x224", ((1, 3, 224, 224),)),
        (["1,2", "3,4"], ((1, 2), (3, 4))),
    ],
)
def test_shapes_are_texts_and_lists(value: Any, expected: tuple[tuple[int, ...], ...]) -> None:
    assert shapes(value) == expected


def test_ranges_are_texts_and_lists() -> None:
    assert ranges("-1.0,1.0") == ranges(["-1.0,1.0"]) == ranges(["-1.0", "1.0"]) == ((-1.0, 1.0),)
    assert ranges(["0,255", "-1,1"]) == ((0.0, 255.0), (-1.0, 1.0))


def test_anchors_and_merges_are_yaml() -> None:
    text = MODEL.replace("  squeeze:\n", "  squeeze: &squeeze\n") + "  other:\n    <<: *squeeze\n    runtime: cpu\n"
    deployment, _ = read(text, MODELS="/m")
    assert deployment.models["other"].subgraphs["default_graph"].runtime == "cpu"
    assert deployment.models["squeeze"].subgraphs["default_graph"].runtime == "dsp"


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (
            "library_name: squeeze",
            "library: squeeze",
            "line 2: library: there is no such key; did you mean 'library_name'?",
        ),
        ("runtime: hexagon", "input_rang: 1", "line 20: models.squeeze.input_rang: there is no such key; did you mean"),
        ("runtime: hexagon", "library_name: x", "models.squeeze.library_name: this key belongs to the top of the file"),
        ("backend: caffe", "platform: onnx", "subgraphs[0].platform: this key belongs to a model"),
        ("1, 227, 227, 3", "1, 227, 227, 0", "input_shapes has the shape '1, 227, 227, 0'; write it like 1,224,224,3"),
        ("[0, 26]", "[0]", "output_shapes has 2 entries, and output_tensors has 1"),
        ("1, 227, 227, 3", "[]", "input_shapes has 0 entries, and input_tensors has 1"),
        ("-1.0,1.0", "-1e39,1.0", "input_ranges has the range '-1e39,1.0', which is wider than that of float32"),
        ("quantize: off", "quantize: 1\n    quantize_large_weights: 1", "are both 1; choose one of them"),
        ("${MODELS}", "${NOTHING}", "line 10: the environment has no variable 'NOTHING' for ${NOTHING}; set it"),
        ("build_type: code", "build_type: zip", "line 5: build_type is 'zip'; it is code or proto"),
        ("embed_model_data: 1", "model_data_format: zip", "model_data_format is 'zip'; it is one of file, code"),
        ("-1.0,1.0", "1.0,-1.0", "input_ranges has the range '1.0,-1.0', whose first end is not below its second"),
        ("{dsp: 0.9, CPU: 0.99}", "{dsp: 1.1}", "validation_threshold says 1.1 for hexagon; a cosine similarity is at"),
        ("  squeeze:", "  3squeeze:", "the model is called '3squeeze'; its name becomes one of C"),
    ],
)
def test_what_means_nothing_is_told_with_its_place(before: str, after: str, told: str) -> None:
    assert before in MODEL
    with pytest.raises(ConfigError) as error:
        read(MODEL.replace(before, after, 1), MODELS="/m")
    assert str(error.value).startswith("f.yml, line ")
    assert told in str(error.value)


def test_a_file_that_is_not_there_is_told_with_the_nearest(tmp_path: Path) -> None:
    from mace_core.deployment.read import read_deployment

    (tmp_path / "mobilenet.yml").write_text(MODEL, encoding="utf-8")
    with pytest.raises(
        ConfigError, match=r"there is no deployment file '.*mobilnet\.yml'; did you mean '.*mobilenet\.yml'"
    ):
        read_deployment(tmp_path / "mobilnet.yml")
    with pytest.raises(ConfigError, match="is a folder"):
        read_deployment(tmp_path)
