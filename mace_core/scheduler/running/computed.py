"""The constants of a model that its session computes: when a plan is made that needs them, and no more often."""

from __future__ import annotations

import contextlib
import logging
import time
import weakref
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from mace_core.errors import MaceError, ModelError
from mace_core.graph import ComputedTensor, Graph, Node, Value
from mace_core.host.fork_safe import fork_safe_rlock
from mace_core.provider.registry import Registry
from mace_core.scheduler.running.constants import HostConstants
from mace_core.tensor import Tensor
from mace_core.tensor.files import release_pages

_log = logging.getLogger("mace")

Bytes = npt.NDArray[np.uint8]


class ComputedConstants:
    """Computes what depends on constants alone, as a run would.

    What was computed is kept while a plan is made (`held`), and for as long as somebody works with it: a provider that
    packed it into a form of its own needs it no more.

    Attributes:
        count: how many were computed so far.
    """

    def __init__(self, registry: Registry, label: str) -> None:
        """``label``: how messages call the model."""
        self.count = 0
        self._registry = registry
        self._label = label
        self._lock = fork_safe_rlock()
        self._roots: dict[ComputedTensor, weakref.ref[npt.NDArray[np.uint8]]] = {}
        self._held: list[Bytes] = []
        self._depth = 0
        self._host: HostConstants | None = None
        self._failure: MaceError | None = None

    def payload_of(self, tensor: ComputedTensor) -> Bytes:
        """The bytes of a constant, computed now where nobody has them any more.

        Raises:
            MaceError: if it cannot be computed.
        """
        with self._lock:
            known = self._roots.get(tensor)
            root = None if known is None else known()
            if root is None:
                root = self._computed(tensor)
                self._roots[tensor] = weakref.ref(root)
            if self._depth:
                self._held.append(root)
            return root.reshape(-1)

    @property
    def held_bytes(self) -> int:
        """The bytes of those that somebody works with at the moment."""
        return sum(root.nbytes for known in list(self._roots.values()) if (root := known()) is not None)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """What is computed in the body is kept to its end, and what cannot be computed is what its failure says.

        A provider that fails because of it would only be passed over.
        """
        with self._lock:
            self._depth += 1
        try:
            yield
        except Exception as error:
            if self._failure is not None and error is not self._failure:
                raise self._failure from error
            raise
        finally:
            with self._lock:
                self._depth -= 1
                if not self._depth:
                    self._let_go()

    def close(self) -> None:
        """Keep nothing any more."""
        with self._lock:
            self._let_go()

    def _let_go(self) -> None:
        self._held.clear()
        self._failure = None
        if self._host is not None:
            self._host.close()
            self._host = None

    def _computed(self, tensor: ComputedTensor) -> Bytes:
        start = time.perf_counter()
        try:
            found = self._evaluate(tensor.recipe)
        except MaceError as error:
            error.add_context(f"{self._label}: a constant of it")
            self._failure = error
            raise
        if (found.dtype, found.shape) != (tensor.dtype, tensor.shape):  # in a damaged file
            self._failure = ModelError(f"{self._label}: a constant of it is to be {tensor}, and is computed as {found}")
            raise self._failure
        self.count += 1
        payload = found.payload
        root = payload if payload.base is None else np.array(payload)
        root.flags.writeable = False
        for value in tensor.recipe.initializers.values():
            if value.constant is not None and not isinstance(value.constant, ComputedTensor):
                release_pages(value.constant.payload)
        milliseconds = (time.perf_counter() - start) * 1000
        _log.debug("%s: the constant '%s' took %.1f ms", self._label, tensor.recipe.outputs[0].name, milliseconds)
        return root

    def _evaluate(self, recipe: Graph) -> Tensor:
        from mace_core.optimizer.constants import part_of
        from mace_core.optimizer.deferred import recipe_of
        from mace_core.optimizer.evaluate import ConstantFacts
        from mace_core.optimizer.infra import PassContext

        graph = recipe_of(recipe.nodes, recipe.outputs[0], {}, recipe.opset_imports)
        result = graph.outputs[0]
        last_reader = {value: node for node in graph.nodes for value in node.inputs if value is not None}
        left: list[Node] = []
        for node in graph.nodes:
            read = [value for value in node.inputs if value is not None]
            contents = None
            if all(value.constant is not None for value in read):
                contents = ConstantFacts(graph, [node], graph.opset_imports, may_grow=True).contents(node)
            if contents is None:
                left.append(node)
                continue
            for value, content in zip(node.outputs, contents, strict=True):
                if value is not None:
                    value.constant = content
            waiting = {value for other in left for value in other.inputs}
            for value in read:
                if last_reader[value] is node and value is not result and value not in waiting:
                    value.constant = None
        if left:
            part = part_of(graph, left, PassContext(graph.opset_imports))
            for value, content in zip(part.outputs, self._on_host(part), strict=True):
                value.constant = content
        found: Value = result
        assert found.constant is not None, "the last node of a recipe gives its result"
        return found.constant

    def _on_host(self, part: Graph) -> list[Tensor]:
        if self._host is None:
            self._host = HostConstants(self._registry)
        try:
            return self._host(part)
        finally:
            if not self._depth:
                self._host.close()
                self._host = None
