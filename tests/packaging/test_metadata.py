"""What an index would show of the six distributions, and what they need."""

from __future__ import annotations

import ast
import email
import email.message
import re
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
NAMES = ["mace-core", "mace-cpu", "mace-opencl", "mace-hexagon", "mace-apu", "mace-npu"]

OPTIONAL = {
    "mace-core": {
        "ai-edge-litert",  # has newer parts of the schema of .tflite files than the package tflite
        "llvmlite",  # mace_core.native generates code for providers that depend on it: mace-cpu
        "numba",
        "onnxruntime",  # yardsticks for `mace validate`
        "openvino",
        "hypothesis",  # for the kit's own strategies
        "pytest",  # the extra "testing"
        "protobuf",  # onnx's own
        "cryptography",  # the extra "sign"
        "joblib",  # the extras "torch", "tensorflow" and "sklearn": each framework's own exporter
        "keras",
        "scikit-learn",
        "skl2onnx",
        "tensorflow",
        "tf2onnx",
        "torch",  # the extra "qat" too, as torchao
        "torchao",
        "grpcio",  # the extra "serve", as the next ones
        "httptools",
        "prometheus-client",
        "starlette",
        "uvicorn",
        "uvloop",
    },
    "mace-opencl": {"llvmlite"},
    "mace-npu": {"openvino", "rknn"},  # rknn is in the environment of the worker
}
"""Imported where it is there, with a way to go on or a message where it is not."""


def folder_of(name: str) -> Path:
    return ROOT if name == "mace-core" else ROOT / "plugins" / name.removeprefix("mace-")


def project(name: str) -> dict:
    return dict(tomllib.loads((folder_of(name) / "pyproject.toml").read_text(encoding="utf-8"))["project"])


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture(scope="module")
def metadata(wheels: dict[str, Path]) -> dict[str, email.message.Message]:
    found = {}
    for name, wheel in wheels.items():
        with zipfile.ZipFile(wheel) as archive:
            (path,) = [file for file in archive.namelist() if file.endswith(".dist-info/METADATA")]
            found[name] = email.message_from_bytes(archive.read(path))
    return found


def description(message: email.message.Message) -> str:
    body = message.get_payload(decode=True)
    assert isinstance(body, bytes)
    return body.decode()


@pytest.mark.parametrize("name", NAMES)
def test_a_readme_renders_as_an_index_renders_it(metadata: dict[str, email.message.Message], name: str) -> None:
    from readme_renderer import markdown

    assert metadata[name]["Description-Content-Type"] == "text/markdown"
    rendered = markdown.render(description(metadata[name]))
    assert rendered is not None
    title = "MACE" if name == "mace-core" else name
    assert re.search(rf"<h1[^>]*>{title}", rendered)
    tables = re.findall(r"^\|[-|: ]*-[-|: ]*\|$", description(metadata[name]), re.MULTILINE)
    assert rendered.count("<table>") == len(tables)


@pytest.mark.parametrize("name", NAMES)
def test_links_of_a_readme_are_absolute_and_their_files_are_in_the_repository(
    metadata: dict[str, email.message.Message], name: str
) -> None:
    text = description(metadata[name])
    home = metadata_urls(metadata[name])["Homepage"]
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert links  # every one names the core
    for link in links:
        assert link.startswith("https://"), link
        if found := re.match(rf"{re.escape(home)}/(?:blob|raw)/main/([^#]+)", link):  # a page, or a picture
            path = found[1]
            assert ".." not in path
            assert (ROOT / path).exists(), link
    own = re.findall(r"\]\(([^)]+)\)", (folder_of(name) / "README.md").read_text(encoding="utf-8"))
    assert len(own) == len(links)


def metadata_urls(message: email.message.Message) -> dict[str, str]:
    return dict(entry.split(", ", 1) for entry in message.get_all("Project-URL") or [])


@pytest.mark.parametrize("name", NAMES)
def test_urls_and_classifiers_are_told(metadata: dict[str, email.message.Message], name: str) -> None:
    from trove_classifiers import classifiers

    urls = metadata_urls(metadata[name])
    assert set(urls) >= {"Homepage", "Documentation", "Source", "Changelog", "Issues"}
    given = metadata[name].get_all("Classifier") or []
    assert set(given) <= set(classifiers)
    assert {f"Programming Language :: Python :: 3.{minor}" for minor in (11, 12, 13)} <= set(given)
    assert "Typing :: Typed" in given


def test_the_cores_extras_bring_what_the_providers_run_on(metadata: dict[str, email.message.Message]) -> None:
    extras = {
        requirement.marker and str(requirement.marker).split('"')[1]: requirement.name
        for requirement in map(Requirement, metadata["mace-core"].get_all("Requires-Dist") or [])
        if requirement.name.startswith("mace-")
    }
    assert extras == {name.removeprefix("mace-"): name for name in NAMES if name != "mace-core"}
    needed = {
        name: {Requirement(text).name for text in metadata[name].get_all("Requires-Dist") or [] if "extra" not in text}
        for name in NAMES
    }
    assert needed["mace-opencl"] >= {"mace-core", "pyopencl"}
    assert needed["mace-cpu"] >= {"mace-core", "numba", "llvmlite"}


@pytest.mark.parametrize("name", NAMES)
def test_what_a_distribution_imports_it_declares(name: str) -> None:
    owners = packages_distributions()
    package = folder_of(name) / name.replace("-", "_")
    imported: dict[str, Path] = {}
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name: path for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                imported[node.module] = path
    declared = {normal(Requirement(text).name) for text in project(name)["dependencies"]} | {normal(name)}
    undeclared = {
        module: str(path.relative_to(ROOT))
        for module, path in imported.items()
        if (top := module.partition(".")[0]) not in sys.stdlib_module_names
        and not {normal(owner) for owner in owners.get(top, [top])} & (declared | OPTIONAL.get(name, set()))
    }
    assert undeclared == {}


@pytest.mark.parametrize("name", NAMES[1:])
def test_a_plugins_readme_says_what_how_and_within_which_limits(name: str) -> None:
    text = (folder_of(name) / "README.md").read_text(encoding="utf-8")
    assert re.search(rf"pip install '?{name}\b", text)
    for heading in ("## Options", "## Limits"):
        assert heading in text
    from mace_core.provider.registry import default_registry

    for option in default_registry().provider(name.removeprefix("mace-")).options:
        assert f"`{option}`" in text
