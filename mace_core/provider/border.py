"""Where the core calls providers: whatever they raise, change or never return from stays on their side.

A provider is somebody else's code.  Within the contract it raises errors of this framework; anything else that it
raises but Ctrl-C, ``SystemExit`` included, becomes a `ProviderBugError`.  Each error names model, device and call; its
traceback is logged at level debug.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from mace_core.errors import (
    CancelledError,
    MaceError,
    OutOfMemoryError,
    ProviderBugError,
    ProviderError,
    UsageError,
    advice_for,
    describe_error,
    error_text,
)
from mace_core.graph.attribute import AttributeKind
from mace_core.host.waiting import put_off

if TYPE_CHECKING:
    from mace_core.graph import Graph, GraphView, Node, Value

_log = logging.getLogger("mace")

_T = TypeVar("_T")


class WrongAnswerError(TypeError):
    """A provider returned something else than the contract says."""


def told(error: BaseException, device: str, call: str, model: str = "") -> BaseException:
    """An exception that a provider's ``call`` raised, as the user meets it: with model, device and call.

    Args:
        error: what it raised.
        device: its qualified name, or the provider's name where no device is concerned.
        call: ``Class.method`` of the contract.
        model: how messages call the model; "" where none is concerned.

    Returns:
        ``error`` itself, told where it happened, if it is of the contract; an `OutOfMemoryError` for the interpreter's
        own ``MemoryError``; a `ProviderError` where no more files may be open; a `ProviderBugError` for anything else
        but Ctrl-C.
    """
    if isinstance(error, KeyboardInterrupt):
        return error
    if isinstance(error, MaceError):
        found = error
    elif isinstance(error, MemoryError):
        detail = error_text(error)
        found = OutOfMemoryError(f"{call} needs more memory than there is{f' ({detail})' if detail else ''}")
    elif advice := advice_for(error):
        found = ProviderError(f"{call} needs more open files than there may be; {advice}")
    else:
        found = _defect(error, device, call)
    if isinstance(found, CancelledError) or found.has_context:
        return found
    if isinstance(found, ProviderError):
        found.device = device
    found.add_context(model, device, "" if isinstance(found, UsageError) else call)  # which is the user's own fault
    _log.debug("%s", found, exc_info=error)
    return found


_BLAME = "; this is a defect of the provider"


def _defect(error: BaseException, device: str, call: str) -> ProviderBugError:
    deed = error_text(error) if isinstance(error, WrongAnswerError) else f"raised {describe_error(error)}"
    provider = device.partition(":")[0]
    return ProviderBugError(f"{call} {deed}{_BLAME} '{provider}': report it to its vendor, or run without this device")


def reason_of(error: BaseException) -> str:
    """An error of a provider as part of a sentence that says already where it happened."""
    if isinstance(error, ProviderBugError) and error.__cause__ is not None:
        cause = error.__cause__
        if isinstance(cause, WrongAnswerError):
            return error.bare_message.partition(_BLAME)[0]  # which call it was
        return describe_error(cause)
    return " ".join(error.bare_message.split()) if isinstance(error, MaceError) else describe_error(error)


def failure_of(error: BaseException) -> str:
    """As `reason_of`, with the error's class, for a call that should not have failed at all."""
    if isinstance(error, MaceError) and not isinstance(error, ProviderBugError):
        return f"{type(error).__name__}: {reason_of(error)}"
    return reason_of(error)


class calling:  # noqa: N801 - used as a function, and several times cheaper than a generator
    """A call into a provider: ``with calling("acme:0", "Backend.compile", "'model.onnx'"): …``.

    Raises:
        MaceError, KeyboardInterrupt: as the provider raised them, told where.
        OutOfMemoryError: in the place of ``MemoryError``.
        ProviderError: in the place of an ``OSError`` that says that no more files may be open.
        ProviderBugError: in the place of anything else.
    """

    __slots__ = ("_call", "_device", "_model")

    def __init__(self, device: str, call: str, model: str = "") -> None:
        self._device = device
        self._call = call
        self._model = model

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            found = told(error, self._device, self._call, self._model)
            if found is not error:
                raise found from error


def instance_of(kind: type[_T] | tuple[type, ...], given: _T) -> _T:
    """``given``, once it is known to be what the contract says.

    Raises:
        WrongAnswerError: if it is not.
    """
    if not isinstance(given, kind):
        wanted = (kind,) if isinstance(kind, type) else kind
        names = " or ".join("None" if k is type(None) else k.__name__ for k in wanted)
        raise WrongAnswerError(f"returned {kind_of(given)} where {names} is promised")
    return given


def kind_of(given: object) -> str:
    """What something is, for a message: ``None``, or the name of its type."""
    return "None" if given is None else type(given).__name__


def list_of(kind: type, given: Iterable[_T], count: int | None = None) -> list[_T]:
    """``given`` as a list, once it is known to hold ``count`` of ``kind`` and nothing else.

    Raises:
        WrongAnswerError: if it does not.
    """
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise WrongAnswerError(f"returned {kind_of(given)} where a sequence of {kind.__name__} is promised")
    found = list(given)
    for item in found:
        if not isinstance(item, kind):
            raise WrongAnswerError(f"returned a sequence with {kind_of(item)} where {kind.__name__} is promised")
    if count is not None and len(found) != count:
        raise WrongAnswerError(f"returned {len(found)} of {kind.__name__} where {count} are promised")
    return found


class _Closable(Protocol):
    def close(self) -> None: ...


def close_all(things: Iterable[_Closable | None], device: str, call: str, model: str = "") -> None:
    """Close what a provider made; an error there is logged, since nothing depends on it any more."""
    for thing in things:
        if thing is not None:
            attempt(thing.close, device, call, model)


def attempt(function: Callable[..., object], device: str, call: str, model: str = "", *arguments: object) -> None:
    """Call into a provider where nothing depends on it any more: an error is logged.  Where an earlier call hangs, this
    one is made when that has come back."""

    def call_now() -> None:
        try:
            function(*arguments)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            _log.error("%s", told(error, device, call, model), exc_info=_log.isEnabledFor(logging.DEBUG))

    if not put_off(device.partition(":")[0], call_now):
        call_now()


# --- what providers are shown -----------------------------------------------------------------------------------------


class unchanged:  # noqa: N801
    """A call that shows graphs to a provider, which must not change them.

    What was changed nevertheless is put back, so that the other providers and the session see the model as it is.

    Raises:
        ProviderBugError: if something was changed, with what.
    """

    __slots__ = ("_device", "_pictures")

    def __init__(self, device: str, *views: GraphView) -> None:
        self._device = device
        self._pictures = _Pictures()
        for view in views:
            self._pictures.take(view.nodes)

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        changed = self._pictures.put_back()
        if changed and (error is None or isinstance(error, Exception)):
            raise ProviderBugError(
                f"{self._device} changed {changed}, which it may only look at; what it says of the model is not used: "
                "report it to the provider's vendor, or run without this device",
                device=self._device,
            ) from error


class _Pictures:
    """Nodes and values as they were."""

    def __init__(self) -> None:
        self._nodes: dict[Node, tuple[Any, ...]] = {}
        self._values: dict[Value, tuple[Any, ...]] = {}
        self._graphs: dict[Graph, tuple[Any, ...]] = {}

    def take(self, nodes: Iterable[Node]) -> None:
        for node in nodes:
            if node in self._nodes:
                continue
            self._nodes[node] = (
                *(node.op_type, node.domain, node.name, node.source),
                *(node.inputs, tuple(node.inputs), node.outputs, tuple(node.outputs)),
                *(node.attributes, dict(node.attributes)),
            )
            for value in (*node.inputs, *node.outputs):
                if value is not None and value not in self._values:
                    self._values[value] = (value.name, value.type, value.constant, value.producer)
            for attribute in node.attributes.values():
                if attribute.kind is AttributeKind.GRAPH:
                    self._take_graph(attribute.value)
                elif attribute.kind is AttributeKind.GRAPHS:
                    for graph in attribute.value:
                        self._take_graph(graph)

    def _take_graph(self, graph: Graph) -> None:
        if graph not in self._graphs:
            self._graphs[graph] = (
                *(graph.nodes, tuple(graph.nodes), graph.inputs, tuple(graph.inputs)),
                *(graph.outputs, tuple(graph.outputs), graph.initializers, dict(graph.initializers)),
            )
            self.take(graph.nodes)

    def put_back(self) -> str:
        """Make everything as it was; what was not, as part of a sentence, or ""."""
        found = [f"node '{node.name}'" for node, picture in self._nodes.items() if _put_node_back(node, picture)]
        found += [f"value '{value.name}'" for value, old in self._values.items() if _put_value_back(value, old)]
        found += [
            f"the nested graph '{graph.name}'" for graph, old in self._graphs.items() if _put_graph_back(graph, old)
        ]
        return ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")


def _same(a: Sequence[Any], b: Sequence[Any]) -> bool:
    return len(a) == len(b) and all(x is y for x, y in zip(a, b, strict=True))


def _put_node_back(node: Node, picture: tuple[Any, ...]) -> bool:
    op_type, domain, name, source, inputs, read, outputs, written, attributes, content = picture
    if (
        (node.op_type, node.domain, node.name, node.source) == (op_type, domain, name, source)
        and (node.inputs is inputs and node.outputs is outputs and node.attributes is attributes)
        and (_same(inputs, read) and _same(outputs, written))
        and (_same(list(attributes), list(content)) and _same(list(attributes.values()), list(content.values())))
    ):
        return False
    node.op_type, node.domain, node.name, node.source = op_type, domain, name, source
    inputs[:], outputs[:] = read, written
    attributes.clear()
    attributes.update(content)
    node.inputs, node.outputs, node.attributes = inputs, outputs, attributes
    return True


def _put_value_back(value: Value, picture: tuple[Any, ...]) -> bool:
    name, kind, constant, producer = picture
    if value.type is kind and value.constant is constant and value.producer is producer and value.name == name:
        return False
    value.name, value.type, value.constant, value.producer = picture
    return True


def _put_graph_back(graph: Graph, picture: tuple[Any, ...]) -> bool:
    nodes, order, inputs, read, outputs, written, initializers, content = picture
    if (
        (graph.nodes is nodes and graph.inputs is inputs and graph.outputs is outputs)
        and (_same(nodes, order) and _same(inputs, read) and _same(outputs, written))
        and (graph.initializers is initializers and _same(list(initializers.values()), list(content.values())))
    ):
        return False
    nodes[:], inputs[:], outputs[:] = order, read, written
    initializers.clear()
    initializers.update(content)
    graph.nodes, graph.inputs, graph.outputs, graph.initializers = nodes, inputs, outputs, initializers
    return True
