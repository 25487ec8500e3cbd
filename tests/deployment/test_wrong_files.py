"""Ten mistakes that people make in deployment files, each with its sentence; docs/users/convert.md shows the same."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from mace_core.cli.main import main

PAGE = Path(__file__).parents[2] / "docs" / "users" / "convert.md"

MISTAKES = {
    "runtime: cpu -> runtime: gpus": "models.mobilenet_v1.runtime is 'gpus'; it is one of cpu, gpu, cpu+gpu, dsp, hta, "
    "htp, apu (did you mean gpu?)",
    "platform: -> platfrom:": "models.mobilenet_v1.platfrom: there is no such key; did you mean 'platform'?",
    "platform: onnx -> platform: tensorflow": "models of tensorflow are not read; export it to ONNX (python -m "
    "tf2onnx.convert --graphdef MODEL.pb --inputs … --outputs … --output MODEL.onnx), and write platform: onnx",
    "- arm64-v8a -> - arm64-v9a": "target_abis is 'arm64-v9a'; it is one of host, armeabi-v7a, arm64-v8a, arm64, "
    "armhf, riscv64, x86-64, x86-64-v3, x86-64-v4 (did you mean arm64-v8a?)",
    "mobilenet_v1.onnx -> mobilenet_v2.onnx": "there is no file 'mobilenet_v2.onnx' (model_file_path); did you mean "
    "'mobilenet_v1.onnx'?",
    "1,48,192,3 -> 1,48,192,4": "input_shapes says 1,48,192,4 for 'x', and the model takes [?, 3, ?, ?], which is "
    "[?, ?, ?, 3] in NHWC",
    "- x -> - input": "'mobilenet_v1.onnx' has no tensor 'input' (input_tensors); its own inputs are 'x'",
    "1,2 -> 1,1001": "output_shapes says 1,1001 for 'save_infer_model/scale_0.tmp_1', and the model gives [1, 2]",
    "winograd: 0 -> winograd: 3": "models.mobilenet_v1.winograd is '3'; it is one of 0, 2, 4",
    "library_name: mobilenet -> library_name: ../mobilenet": "library_name is '../mobilenet'; it becomes the name of a "
    "folder: letters, digits and _ . + - (not first), at most 100",
}


PLACES = {
    "platform: -> platfrom:": "platfrom: onnx",
    "- arm64-v8a -> - arm64-v9a": "target_abis:",
    "mobilenet_v1.onnx -> mobilenet_v2.onnx": "model_file_path: mobilenet_v2.onnx",
    "1,48,192,3 -> 1,48,192,4": "input_shapes:",
    "- x -> - input": "- input_tensors:",
    "1,2 -> 1,1001": "output_shapes:",
}
"""The lines that the errors name, where they are not what was changed."""


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_in_a_sentence(
    mistake: str, deployment: dict[str, Any], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, _, after = mistake.partition(" -> ")
    text = yaml.safe_dump(deployment, sort_keys=False)
    assert before in text
    (folder / "mobilenet_v1.yml").write_text(text.replace(before, after, 1), encoding="utf-8")
    assert main(["convert", "--config_file=mobilenet_v1.yml"]) == 2
    printed = capsys.readouterr()
    found = re.fullmatch(r"(?:mace: note: .*\n)*mace: error: mobilenet_v1\.yml, line (\d+): (.*)\n", printed.err)
    assert found is not None, printed.err
    assert found[2] == MISTAKES[mistake]
    line = (folder / "mobilenet_v1.yml").read_text(encoding="utf-8").splitlines()[int(found[1]) - 1]
    assert line.strip() == PLACES.get(mistake, after.removeprefix("- ") if ":" in after else line.strip())
    assert not (folder / "build").exists()


def test_the_page_has_the_sentences() -> None:
    page = " ".join(PAGE.read_text(encoding="utf-8").split())
    for sentence in MISTAKES.values():
        assert " ".join(sentence.split()) in page


def test_a_wrong_checksum_is_told_with_the_right_one(
    deployment: dict[str, Any], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    right = hashlib.sha256((folder / "mobilenet_v1.onnx").read_bytes()).hexdigest()
    deployment["models"]["mobilenet_v1"]["model_sha256_checksum"] = "0" * 64
    (folder / "m.yml").write_text(yaml.safe_dump(deployment), encoding="utf-8")
    assert main(["convert", "m.yml"]) == 2
    assert f"the checksum of 'mobilenet_v1.onnx' is {right}, and the file says {'0' * 64}" in capsys.readouterr().err


def test_all_mistakes_are_told_at_once(
    deployment: dict[str, Any], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = deployment["models"]["mobilenet_v1"]
    model["winogard"] = model.pop("winograd")
    model["runtime"] = "tpu"
    del model["subgraphs"][0]["output_shapes"]
    (folder / "m.yml").write_text(yaml.safe_dump(deployment, sort_keys=False), encoding="utf-8")
    assert main(["convert", "m.yml"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "mace: error: 3 mistakes:"
    assert ["output_shapes is missing" in lines[1], "runtime is 'tpu'" in lines[2], "'winograd'?" in lines[3]] == [
        True
    ] * 3
