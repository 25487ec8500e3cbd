"""Operators register once, in one place; those of a domain come from whoever publishes it."""

from __future__ import annotations

import importlib
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from mace_core import Session
from mace_core.errors import MaceError, UsageError
from mace_core.operators import (
    BodyBuilder,
    NodeContext,
    agreement,
    attribute_rules,
    body,
    evaluator,
    packages,
    shape_function,
)
from mace_core.operators.packages import load_domain

OURS = ("", "ai.onnx.ml", "ai.onnx.preview", "ai.onnx.preview.training", "com.microsoft")

HYPOTENUSE = """
    from mace_core.operators import body, shape_function

    @shape_function("Hypotenuse", domain="com.acme.geometry")
    def hypotenuse(ctx):
        return [ctx.type(0)]

    @body("Hypotenuse", domain="com.acme.geometry")
    def build_hypotenuse(b, node):
        squares = [b.op("Mul", [value, value]) for value in node.inputs]
        b.op("Sqrt", [b.op("Add", squares)], into=node.outputs[0])
        return True
"""


@pytest.mark.parametrize("domain", OURS)
def test_all_families_of_a_domain_load(domain: str) -> None:
    load_domain(domain)
    assert not packages._asked.get((packages.GROUP, domain))


@pytest.mark.parametrize("register", [shape_function, agreement, evaluator, body])
@pytest.mark.parametrize(("domain", "operator"), [("com.acme.twice", "Twice")])
def test_a_second_registration_is_refused(register: object, domain: str, operator: str) -> None:
    assert callable(register)
    name = f"{operator}{register.__name__}"
    register(name, domain=domain)(lambda *given: None)
    with pytest.raises(UsageError, match=f"{domain}.{name} has .* already"):
        register(name, domain=domain)(lambda *given: None)


def test_second_rules_for_attributes_are_refused() -> None:
    attribute_rules("Twice", domain="com.acme.twice", rules={})
    with pytest.raises(UsageError, match=r"com\.acme\.twice\.Twice has rules for its attributes already"):
        attribute_rules("Twice", domain="com.acme.twice", rules={})


Publish = Callable[[str, str], None]


@pytest.fixture
def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Publish]:
    """``publish(domain, source)``: an installed package of operators with one family."""
    site = tmp_path / "site"
    monkeypatch.syspath_prepend(str(site))

    def publish(domain: str, source: str) -> None:
        package = site / "acme_geometry"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "triangles.py").write_text(textwrap.dedent(source))
        info = site / "acme_geometry-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-geometry\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[mace.operators]\n{domain} = acme_geometry\n")
        importlib.invalidate_caches()

    yield publish
    for name in [name for name in sys.modules if name.startswith("acme_geometry")]:
        del sys.modules[name]


def hypotenuse(domain: str) -> onnx.ModelProto:
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in "xyz"]
    node = helper.make_node("Hypotenuse", ["x", "y"], ["z"], domain=domain)
    return helper.make_model(
        helper.make_graph([node], "g", info[:2], info[2:]),
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid(domain, 1)],
        ir_version=8,
    )


def test_an_installed_package_adds_operators_as_the_core_does(publish: Publish) -> None:
    publish("com.acme.geometry", HYPOTENUSE)
    with Session(hypotenuse("com.acme.geometry"), devices=["cpu"], strict=True, cache=False) as session:
        found = session.run({"x": np.float32([3, 5, 8]), "y": np.float32([4, 12, 15])})["z"]
    np.testing.assert_allclose(found, [5, 13, 17], rtol=1e-6)


@pytest.mark.parametrize("strict", [False, True])
def test_an_error_names_the_package_that_cannot_be_imported(publish: Publish, strict: bool) -> None:
    domain = f"com.acme.broken{int(strict)}"
    publish(domain, "import a_module_that_is_not_there\n")
    with pytest.raises(MaceError, match=r"acme-geometry 1\.0.*cannot be imported: .*a_module_that_is_not_there"):
        Session(hypotenuse(domain), devices=["cpu"], strict=strict, cache=False)


def test_an_error_says_that_nobody_publishes_the_domain() -> None:
    with pytest.raises(MaceError, match=r"no installed package publishes operators of com\.acme\.nobody"):
        Session(hypotenuse("com.acme.nobody"), devices=["cpu"], cache=False)


def test_what_registers_is_typed() -> None:
    """The decorators give the function back."""

    @shape_function("Typed", domain="com.acme.typed")
    def typed(ctx: NodeContext) -> list[None]:
        return [None]

    @body("Typed", domain="com.acme.typed")
    def build_typed(b: BodyBuilder, node: object) -> bool:
        return False

    assert typed.__name__ == "typed"
    assert build_typed.__name__ == "build_typed"
