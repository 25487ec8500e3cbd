"""Operators register once, in one place; those of a domain come from whoever publishes it."""

from __future__ import annotations

import importlib
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from mace_core import Session
from mace_core.errors import UsageError
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


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installed package of operators, one module for each family."""
    site = tmp_path / "site"
    package = site / "acme_geometry"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "triangles.py").write_text(textwrap.dedent(HYPOTENUSE))
    info = site / "acme_geometry-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-geometry\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[mace.operators]\ncom.acme.geometry = acme_geometry\n")
    monkeypatch.syspath_prepend(str(site))
    importlib.invalidate_caches()
    yield
    for name in [name for name in sys.modules if name.startswith("acme_geometry")]:
        del sys.modules[name]


@pytest.mark.usefixtures("published")
def test_an_installed_package_adds_operators_as_the_core_does() -> None:
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in "xyz"]
    node = helper.make_node("Hypotenuse", ["x", "y"], ["z"], domain="com.acme.geometry")
    model = helper.make_model(
        helper.make_graph([node], "g", info[:2], info[2:]),
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.acme.geometry", 1)],
        ir_version=8,
    )
    with Session(model, devices=["cpu"], strict=True, cache=False) as session:
        found = session.run({"x": np.float32([3, 5, 8]), "y": np.float32([4, 12, 15])})["z"]
    np.testing.assert_allclose(found, [5, 13, 17], rtol=1e-6)


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
