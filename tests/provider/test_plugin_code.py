"""What was compiled by other code than what is installed is never run; forks of one provider are told apart."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from mace_core.discovery.entry_points import Switches
from mace_core.discovery.plugin_code import same_version
from mace_core.errors import PluginError
from mace_core.provider import PluginState, Registry

Install = Callable[..., Path]

EXAMPLE = Path(__file__).parents[2] / "examples" / "vendor_plugin" / "acme_npu"

RUN = """
import json, sys
import numpy as np
import mace_core as mace

with mace.Session(sys.argv[1], devices=["acme:sim0"], strict=True) as session:
    y = session.run({"x": np.array([[-1.0, 2.0]], np.float32)})["y"]
    print(json.dumps([y.tolist(), [done.restored for done in session.explain().preparations]]))
"""

Start = Callable[..., list[bool]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """``start(folder)``: runs a model on the ACME provider found in ``folder`` in a process of its own; for each
    preparation, whether it came out of the cache."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"], name="relu")], "g", [x], [y])
    model = tmp_path / "relu.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), model)

    def start(*folders: Path, **environment: str) -> list[bool]:
        given = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, folders)),
            "MACE_CACHE_DIR": str(tmp_path / "cache"),
            "MACE_PLUGINS": "acme",
            "PYTHONDONTWRITEBYTECODE": "1",
            **environment,
        }
        ran = subprocess.run([sys.executable, "-c", RUN, str(model)], env=given, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        result, restored = json.loads(ran.stdout)
        assert result == [[0.0, 2.0]]
        return [bool(item) for item in restored]

    return start


def put_plugin(folder: Path, distribution: str = "acme-npu", version: str = "1.2.0") -> Path:
    """The example vendor's package, and a distribution for it, in ``folder``; over the installed one of that name."""
    shutil.copytree(EXAMPLE, folder / "acme_npu", ignore=shutil.ignore_patterns("__pycache__"))
    put_metadata(folder, distribution, version)
    return folder / "acme_npu"


def put_metadata(folder: Path, distribution: str, version: str) -> None:
    for old in folder.glob("*.dist-info"):
        shutil.rmtree(old)
    info = folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text("[mace.execution_providers]\nacme = acme_npu.provider:AcmeProvider\n")


def edit(package: Path, what: str) -> None:
    """One change to an installed plugin that leaves its class attributes and the form of its blobs alone."""
    if what == "a module the provider does not import":
        with (package / "program.py").open("a") as file:
            file.write("\n# another way to compute\n")
    elif what == "a library beside it":
        (package / "libacme.so").write_bytes(b"another build")
    elif what == "a file of the same size":
        path = package / "operators.py"
        stamp = path.stat().st_mtime_ns + 10**9
        os.utime(path, ns=(stamp, stamp))
    elif what == "a new module":
        (package / "tables").mkdir()
        (package / "tables" / "costs.json").write_text("{}")
    else:
        put_metadata(package.parent, "acme-npu", "1.2.1")
        init = package / "__init__.py"
        before = init.stat()
        init.write_text(init.read_text().replace("1.2.0", "1.2.1"))
        os.utime(init, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES = (
    "a module the provider does not import",
    "a library beside it",
    "a file of the same size",
    "a new module",
    "the version",
)


@pytest.mark.parametrize(
    "what", [pytest.param(what, marks=[pytest.mark.full] if at % 2 else []) for at, what in enumerate(CHANGES)]
)
def test_a_program_compiled_by_other_code_is_not_run(start: Start, tmp_path: Path, what: str) -> None:
    package = put_plugin(tmp_path / "site")
    assert start(tmp_path / "site") == [False]
    assert start(tmp_path / "site") == [True]
    edit(package, what)
    assert start(tmp_path / "site") == [False]
    assert start(tmp_path / "site") == [True]


def test_forks_with_one_name_and_one_version_share_no_programs(start: Start, tmp_path: Path) -> None:
    """The same files at the same times."""
    put_plugin(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    put_metadata(tmp_path / "two", "acme-npu-fork", "1.2.0")
    assert start(tmp_path / "one") == [False]
    chosen = {"MACE_PLUGINS": "acme@acme-npu-fork"}
    assert start(tmp_path / "two", tmp_path / "one", **chosen) == [False]
    assert start(tmp_path / "one") == [True]
    assert start(tmp_path / "two", tmp_path / "one", **chosen) == [True]


def test_a_class_of_another_version_than_the_distribution_is_refused(install_provider: Install, site: Path) -> None:
    install_provider("zap")
    path = site / "acme_zap.py"
    path.write_text(path.read_text().replace('version = "1.0"', 'version = "1.1"'))
    registry = Registry(Switches())
    with pytest.raises(PluginError, match=r"version is '1\.1', but acme-zap 1\.0 is installed.*--force-reinstall"):
        registry.provider("zap")
    assert registry.status("zap").state is PluginState.FAILED


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("1.0", "1.0.0", True), ("1.0-rc1", "1rc1", True), ("v2.1", "2.1", True), ("1.0.dev3", "1.0dev3", True),
        ("1.0c1", "1.0rc1", True), ("1.0.post1", "1.0-post1", True), ("1.0+abc", "1.0+abc", True),
        ("1.0", "1.1", False), ("1.10", "1.1", False), ("1.0rc1", "1.0", False), ("1.0", "1.0+abc", False),
        ("0.1", "1", False), ("10", "1", False),
    ],
)  # fmt: skip
def test_versions_are_compared_as_pip_does(a: str, b: str, same: bool) -> None:
    assert same_version(a, b) is same_version(b, a) is same


# --- two distributions with one name ----------------------------------------------------------------------------------


def states(registry: Registry, name: str) -> dict[str, PluginState]:
    return {row.distribution: row.state for row in registry.plugins() if row.name == name}


@pytest.fixture
def twins(install_provider: Install) -> None:
    install_provider("zeta", distribution="zeta-npu")
    install_provider("zeta", distribution="zeta-npu-fork")


@pytest.mark.parametrize(
    "variables",
    [
        {"MACE_PLUGINS": "zeta@zeta-npu-fork"},
        {"MACE_PLUGINS": " zeta@Zeta_NPU.fork , reference"},
        {"MACE_DISABLE_PLUGINS": "zeta@zeta-npu"},
        {"MACE_PLUGINS": "zeta", "MACE_DISABLE_PLUGINS": "zeta@zeta-npu"},
    ],
)
def test_one_of_two_distributions_is_chosen(
    twins: None, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    registry = Registry()
    assert registry.entry("zeta").distribution == "zeta-npu-fork"
    assert type(registry.provider("zeta")).__module__ == "zeta_npu_fork"
    assert states(registry, "zeta") == {"zeta-npu-fork": PluginState.OK, "zeta-npu": PluginState.DISABLED}
    assert "zeta_npu" not in sys.modules


def test_the_conflict_tells_how_to_choose(twins: None) -> None:
    with pytest.raises(PluginError, match=r"MACE_DISABLE_PLUGINS=zeta@zeta-npu"):
        Registry(Switches()).provider("zeta")


def test_a_distribution_that_is_not_there_is_told_and_nothing_else_takes_its_place(
    twins: None, caplog: pytest.LogCaptureFixture
) -> None:
    registry = Registry(Switches(allowed=frozenset({"zeta@zeta-gpu"})))
    assert "zeta" not in registry.names()
    assert "'zeta@zeta-gpu', which is not installed" in caplog.text
    assert set(states(registry, "zeta").values()) == {PluginState.DISABLED}


def test_hooks_of_one_distribution_are_switched_off(install: Install) -> None:
    from mace_core.provider.hooks import HookManager

    for distribution in ("watch-a", "watch-b"):
        module = distribution.replace("-", "_")
        install(distribution, "1.0", {"mace.hooks": f"watch = {module}"}, {f"{module}.py": ""})
    manager = HookManager(Switches(disabled=frozenset({"watch@watch-a"})))
    found = {row.distribution: row.state for row in manager.plugins() if row.name == "watch"}
    assert found == {"watch-a": PluginState.DISABLED, "watch-b": PluginState.OK}
