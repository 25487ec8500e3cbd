"""Operators register once, in one place; those of a domain come from whoever publishes it."""

from __future__ import annotations

import ast
import importlib
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import mace_core.operators
from mace_core import Session
from mace_core.errors import MaceError, ModelError, UsageError
from mace_core.graph import Attribute, AttributeKind, Graph, Node, Value
from mace_core.operators import (
    BodyBuilder,
    NodeContext,
    agreement,
    attribute_rules,
    body,
    evaluator,
    packages,
    rank_check,
    registry,
    resolve,
    shape_function,
    shapes_from_contents,
    work_estimate,
)
from mace_core.operators.attributes import settle
from mace_core.operators.packages import load_domain
from mace_core.operators.standard.attributes import ACTIVATIONS
from mace_core.operators.work import graph_macs
from mace_core.tensor import DType, TensorType

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


@pytest.mark.parametrize("register", [shape_function, rank_check, agreement, evaluator, body, work_estimate])
@pytest.mark.parametrize(("domain", "operator"), [("com.acme.twice", "Twice")])
def test_a_second_registration_is_refused(register: object, domain: str, operator: str) -> None:
    assert callable(register)
    name = f"{operator}{register.__name__}"
    register(name, domain=domain)(lambda *given: None)
    with pytest.raises(UsageError, match=f"{domain}.{name} has .* already"):
        register(name, domain=domain)(lambda *given: None)


def test_second_inputs_that_decide_shapes_are_refused() -> None:
    shapes_from_contents("Twice", domain="com.acme.twice", inputs=(1,))
    with pytest.raises(UsageError, match=r"com\.acme\.twice\.Twice has inputs .* already"):
        shapes_from_contents("Twice", domain="com.acme.twice", inputs=(0,))


def operators_known() -> set[str]:
    """Every operator that registers anything in the core's domains."""
    tables = [table for table in vars(registry).values() if isinstance(table, registry._Table)]
    assert len(tables) >= 7
    rules = {op_type for domain, op_type in settle._by_operator if domain in OURS}
    return rules.union(*(table.operators(domain) for table in tables for domain in OURS))


def test_an_operator_is_named_in_its_family_only() -> None:
    """What looks operators up knows none by name, and what says of attributes holds for names, not for operators."""
    root = Path(mace_core.operators.__file__).parent
    builders = ("bodies.py", "pieces.py")  # they append nodes to what stands for another
    files = [path for path in root.glob("*.py") if path.name not in builders]
    files += [*root.glob("attributes/*.py"), *(path for path in root.glob("*/attributes.py"))]
    known = operators_known() - {"Constant"}  # a graph's own form of a constant
    found = {
        f"{path.relative_to(root)}: {node.value}"
        for path in files
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and node.value in known and node.value not in ACTIVATIONS
    }
    assert not found


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


BOUNDED = """
    import math
    from mace_core.operators import rank_check, shape_function, work_estimate
    from mace_core.operators.attributes.ranks import axis_of_data

    rank_check("Pairs", domain="com.acme.pairs")(axis_of_data("axis"))

    @shape_function("Pairs", domain="com.acme.pairs")
    def pairs(ctx):
        return [ctx.type(0)]

    @work_estimate("Pairs", domain="com.acme.pairs", are_macs=True)
    def every_pair(shapes):
        return math.prod(shapes.input(0)) ** 2
"""


def test_operators_of_a_package_are_checked_and_bounded_too(publish: Publish) -> None:
    publish("com.acme.pairs", BOUNDED)
    x = Value("x", TensorType(DType.FLOAT32, (1 << 12, 1 << 12)))
    node = Node("Pairs", [x], [Value("y")], name="pairs", domain="com.acme.pairs")
    graph = Graph("g")
    graph.inputs, graph.nodes = [x], [node]
    assert x.type is not None
    with pytest.raises(ModelError, match=r"node 'pairs' .* operations, more than"):
        resolve(graph, {x: x.type})
    small = {x: TensorType(DType.FLOAT32, (3, 4))}
    assert graph_macs(graph, dict(resolve(graph, small).types)) == {"pairs": 144}
    node.attributes["axis"] = Attribute(AttributeKind.INT, 2)
    with pytest.raises(ModelError, match=r"axis 2 does not exist in 2 dimensions \(attribute 'axis'\)"):
        resolve(graph, small)


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
