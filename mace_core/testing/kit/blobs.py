"""Stored forms: what is restored is what was stored."""

from __future__ import annotations

import numpy as np
import pytest

from mace_core.graph import Graph, Node, Value
from mace_core.provider import Backend, Device, ExecutionProvider
from mace_core.tensor import DType, Tensor, TensorType
from mace_core.testing.cases import OPSET, operator_cases
from mace_core.testing.forms import operator_forms
from mace_core.testing.kit.base import Array, KitBase
from mace_core.testing.runner import run_once, view_of

FORMS_OF_AN_OPERATOR = 2
"""How many forms with constants of each operator are stored."""

CHAINS = (
    ("MatMul", "MatMul", "MatMul"),
    ("Gemm", "Gemm"),
    ("Add", "Mul", "Sub", "Add"),
    ("MatMul", "Add", "MatMul", "Mul"),
    ("Add", "Add"),
)
"""Nodes one after the other, each with a constant of the same shape and type: whoever mixes them up computes else."""


class BlobChecks(KitBase):
    """Blobs restore the subgraphs they were made of, in their order, each with its own constants."""

    def test_blobs_round_trip(self, backend: Backend) -> None:
        case, compiled = self.compiled_case(backend)
        view = view_of(case.graph(), case.feeds())
        blob = backend.serialize([compiled])
        if not self.declaration.serializes:
            assert blob is None, "the backend serializes, but the declaration says it does not"
            compiled.close()
            return
        assert blob, "the declaration says that the backend serializes"
        expected = run_once(backend, view, compiled, case.feeds())
        compiled.close()
        (restored,) = backend.deserialize(blob, [view])
        for name, array in run_once(backend, view, restored, case.feeds()).items():
            np.testing.assert_array_equal(array, expected[name])
        restored.close()

    def test_blobs_restore_every_subgraph_with_its_own_constants(
        self, backend: Backend, provider: ExecutionProvider, device: Device
    ) -> None:
        """All that the backend claims of what has constants, in one group, restored where it was made and on a device
        that is opened anew."""
        self.check_blobs_of_constants(backend, provider, device, FORMS_OF_AN_OPERATOR)

    def check_blobs_of_constants(
        self, backend: Backend, provider: ExecutionProvider, device: Device, forms: int
    ) -> None:
        """The same of the small cases, of chains, and of so many forms of each operator."""
        if not self.declaration.serializes:
            pytest.skip("the declaration says that compiled subgraphs have no stored form")
        graphs = self.graphs_of_constants(backend, forms)
        stored = [(name, graph, feeds, view_of(graph, feeds)) for name, graph, feeds in graphs]
        if not stored:
            pytest.skip("the backend claims nothing that has constants")
        compiled = backend.compile([view for *_, view in stored])
        fresh = b"".join(bytes(part) for part in backend.serialize_parts(compiled) or ())
        right = [
            run_once(backend, view, item, feeds) for (_, _, feeds, view), item in zip(stored, compiled, strict=True)
        ]
        # some libraries store nothing any more once there was a run
        blob = b"".join(bytes(part) for part in backend.serialize_parts(compiled) or ()) or fresh
        for item in compiled:
            item.close()
        assert blob, "the declaration says that the backend serializes"
        other = provider.open(device, self.declaration.options)
        for opened, where in ((backend, "where it was made"), (other, "on a device opened anew")):
            restored = opened.deserialize_view(memoryview(blob), [view for *_, view in stored])
            assert len(restored) == len(stored), f"{len(restored)} subgraphs were restored of {len(stored)}"
            wrong = []
            for (name, _, feeds, view), item, outputs in zip(stored, restored, right, strict=True):
                found = run_once(opened, view, item, feeds)
                if any(not np.array_equal(found[key], array, equal_nan=True) for key, array in outputs.items()):
                    wrong.append(name)
                item.close()
            assert not wrong, f"restored from a blob {where}, these compute something else: {'; '.join(wrong[:6])}"
        other.close()

    def graphs_of_constants(self, backend: Backend, forms: int) -> list[tuple[str, Graph, dict[str, Array]]]:
        """What the backend claims of all that has constants, of ``forms`` forms of each operator."""
        cases = [case for case in operator_cases() if case.constants]
        for candidates in operator_forms().values() if forms else ():
            claimed = (
                case for case in candidates if case.constants and self.is_claimed(backend, case.graph(), case.feeds())
            )
            cases += [case for _, case in zip(range(forms), claimed, strict=False)]
        found = [(case.name, case.graph(), case.feeds()) for case in cases if case.feeds()]
        found += [(" then ".join(chain), *chain_of_constants(chain)) for chain in CHAINS]
        return [item for item in found if self.is_claimed(backend, item[1], item[2])]

    def is_claimed(self, backend: Backend, graph: Graph, feeds: dict[str, Array]) -> bool:
        """Whether the backend claims every node."""
        view = view_of(graph, feeds)
        return {node for claim in backend.capability(view).claims for node in claim.nodes} == set(view.nodes)


def chain_of_constants(op_types: tuple[str, ...]) -> tuple[Graph, dict[str, Array]]:
    """Nodes one after the other, each with a square constant of its own."""
    graph = Graph(" then ".join(op_types))
    graph.opset_imports = {"": OPSET}
    value = Value("x", TensorType(DType.FLOAT32, (5, 5)))
    graph.inputs = [value]
    for number, op_type in enumerate(op_types):
        weights = np.random.default_rng(number + 11).uniform(-1, 1, (5, 5)).astype(np.float32)
        constant = Value(f"w{number}", None, Tensor.from_numpy(weights))
        graph.initializers[constant.name] = constant
        result = Value(f"v{number}")
        graph.nodes.append(Node(op_type, [value, constant], [result], name=f"{op_type.lower()} {number}"))
        value = result
    graph.outputs = [value]
    return graph, {"x": np.random.default_rng(3).uniform(-1, 1, (5, 5)).astype(np.float32)}
