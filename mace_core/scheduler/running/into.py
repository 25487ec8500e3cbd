"""Arrays of the caller that a run writes its outputs into.

The last step writes an array where it lies if that is safe: nothing that the run reads may be in the same memory, since
a run that fails on one device is begun again on another.  Else the output is computed elsewhere and copied, which is
told.
"""

from __future__ import annotations

import contextlib
import mmap
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mace_core.errors import InputError, InputTypeError
from mace_core.graph import ComputedTensor, Graph, Value
from mace_core.graph.attribute import AttributeKind
from mace_core.scheduler.context import RunContext
from mace_core.scheduler.running.results import arrays_of
from mace_core.scheduler.running.step_bindings import unfit
from mace_core.scheduler.running.written import Span, Writing, meet, span_of
from mace_core.scheduler.values import RuntimeValue
from mace_core.tensor import DType, TensorType

_PLAIN = "its memory is not contiguous and aligned"
_PASSED_ON = "no device computes it into memory of its own: it is an input, a constant or a result of control flow"


class Into:
    """The arrays given for outputs, checked.

    Attributes:
        given: what the caller gave, by the name of the output.
        arrays: the same as numpy arrays.
        lasts: the same objects are fed again and again, so that it is remembered what follows from them.
        copied: outputs that were or will be copied in the latest run, and why.
    """

    def __init__(
        self, given: Mapping[str, Any], outputs: Sequence[Value], constants: Sequence[tuple[Span, str]], model: str
    ) -> None:
        """
        Args:
            outputs: those that are computed.
            constants: memory of the model that may be an application's, and the names of the constants.
            model: how messages call the model.

        Raises:
            InputError: if an array does not fit its output, or cannot be written.
        """
        if not isinstance(given, Mapping):
            raise InputTypeError(f"{model}: into is a mapping from output name to array, not {type(given).__name__}")
        self._model = model
        self.given = dict(given)
        self.arrays: dict[str, npt.NDArray[Any]] = {}
        self.copied: dict[str, str] = {}
        self.lasts = False
        self._known: tuple[Any, list[int], dict[Value, npt.NDArray[Any]], list[Any]] | None = None
        self._lasting: dict[str, str] = {}  # why some are copied in any run
        named = {value.name: value for value in outputs}
        for name, array in given.items():
            value = named.get(name)
            if value is None:
                known = ", ".join(map(repr, named)) or "none"
                raise InputError(f"{model}: into has {name!r}, which is no output of it; those are {known}")
            found = self.arrays[name] = self._checked(name, array, value)
            if isinstance(value.type, TensorType) and (value.type.dtype.is_packed or value.type.dtype is DType.STRING):
                self._lasting[name] = f"a kernel computes {value.type.dtype.label} in another form"
            elif not (found.flags.c_contiguous and found.flags.aligned):
                self._lasting[name] = _PLAIN
        self._spans = {name: span_of(array) for name, array in self.arrays.items()}
        self._check_apart()
        for name, span in self._spans.items():
            for constant, owner in constants:
                if meet(span, constant):
                    raise InputError(
                        f"{model}: the array for output '{name}' is memory of the model's constant '{owner}'; "
                        "give an array of its own"
                    )

    def _checked(self, name: str, array: Any, value: Value) -> npt.NDArray[Any]:
        whose = f"{self._model}: the array for output '{name}'"
        if value.type is not None and not isinstance(value.type, TensorType):
            raise InputTypeError(f"{self._model}: output '{name}' is {value.type}, which goes into no array")
        if not isinstance(array, np.ndarray):
            array = _from_dlpack(array, whose)
        found: npt.NDArray[Any] = array.view(np.ndarray)  # its shape stays, whatever becomes of the caller's object
        if not found.flags.writeable:
            raise InputError(f"{whose} is read-only; give one that may be written")
        if value.type is not None:
            expected = value.type.dtype.numpy
            if found.dtype != expected:
                raise InputTypeError(f"{whose} has element type {found.dtype}; the output is {value.type.dtype.label}")
        if _meets_itself(found):
            raise InputError(f"{whose} has elements that lie in the same memory; give one without")
        return found

    def _check_apart(self) -> None:
        names = list(self.arrays)
        for at, name in enumerate(names):
            for other in names[:at]:
                if meet(self._spans[name], self._spans[other]) and np.shares_memory(
                    self.arrays[name], self.arrays[other]
                ):
                    raise InputError(
                        f"{self._model}: the arrays for outputs '{other}' and '{name}' share memory; "
                        "give each an array of its own"
                    )

    def reserve(self) -> Writing:
        """Nobody else may write the arrays until that is ended.

        Raises:
            UsageError: if another run is to write some of that memory.
        """
        return Writing(self.arrays, self._spans, self._model)

    @contextlib.contextmanager
    def reserved(self) -> Iterator[None]:
        """As `reserve`, for the body."""
        held = self.reserve()
        try:
            yield
        finally:
            held.end()

    def forget(self) -> None:
        """Let go of what was fed."""
        self.lasts, self._known = False, None

    def check_names(self, computed: Sequence[str]) -> None:
        """
        Raises:
            InputError: if there is an array for an output that is not computed.
        """
        for name in self.arrays:
            if name not in computed:
                raise InputError(f"{self._model}: into has '{name}', which is not an output that this run hands out")

    def targets(
        self, outputs: Iterable[Value], fed: Iterable[tuple[str, RuntimeValue]]
    ) -> dict[Value, npt.NDArray[Any]]:
        """The arrays that steps may write where they lie.

        Args:
            outputs: of the graph that runs.
            fed: what inputs are fed, by name.
        """
        fed = list(fed)
        known = self._known
        if known is not None and known[0] is outputs and [id(value) for _, value in fed] == known[1]:
            return known[2]
        self.copied = dict(self._lasting)
        read = [(input, array, span_of(array)) for input, value in fed for array in arrays_of([value])]
        for name, span in self._spans.items():
            for input, array, memory in read:
                if meet(span, memory) and np.may_share_memory(array, self.arrays[name]):
                    self.copied[name] = f"it shares memory with input '{input}'"
                    break
        direct = self.arrays.keys() - self.copied.keys()
        found = {value: self.arrays[value.name] for value in outputs if value.name in direct}
        if self.lasts:
            self._known = outputs, [id(value) for _, value in fed], found, fed
        return found

    def filled(self, results: Mapping[str, RuntimeValue], context: RunContext) -> dict[str, Any]:
        """What the caller gave, by name, with the results of a run in it.

        Raises:
            InputError: if a result does not fit.
        """
        for name, target in self.arrays.items():
            result = results[name]
            if result is target:
                continue
            if not isinstance(result, np.ndarray) or (result.dtype, result.shape) != (target.dtype, target.shape):
                is_array = isinstance(result, np.ndarray)
                found = f"{result.dtype}{list(result.shape)}" if is_array else f"a {type(result).__name__}"
                raise unfit(self._model, name, target, found)
            self.copied.setdefault(name, _PASSED_ON)
            start_ns = time.perf_counter_ns()
            target[...] = result
            if context.profile is not None:
                what = f"copy to the caller's array for {name}: {self.copied[name]}"
                context.profile.recorder("core")(what, (), start_ns, time.perf_counter_ns())
        return self.given


def application_constants(graph: Graph) -> list[tuple[Span, str]]:
    """Memory of constants that could be written, which is an application's own: that of files is mapped read-only."""
    found: dict[Span, str] = {}
    pending = [graph]
    while pending:
        current = pending.pop()
        values = [*current.initializers.values(), *current.outputs]
        for node in current.nodes:
            values += [value for value in node.inputs if value is not None]
            for attribute in node.attributes.values():
                if attribute.kind is AttributeKind.GRAPH:
                    pending.append(attribute.value)
                elif attribute.kind is AttributeKind.GRAPHS:
                    pending.extend(attribute.value)
        for value in values:
            constant = value.constant
            if isinstance(constant, ComputedTensor):
                pending.append(constant.recipe)
            elif constant is not None and constant.nbytes and not _is_of_a_file(constant.payload):
                found[span_of(constant.payload)] = value.name
    return list(found.items())


def _is_of_a_file(payload: npt.NDArray[Any]) -> bool:
    """Whether nobody can write to a payload: bytes, or a file that is mapped."""
    root: Any = payload
    while isinstance(root, np.ndarray) and root.base is not None:
        if root.flags.writeable:
            return False
        root = root.base
    return isinstance(root, bytes | mmap.mmap | memoryview)


def _from_dlpack(given: Any, whose: str) -> npt.NDArray[Any]:
    from mace_core.tensor.dlpack import from_dlpack, is_on_a_device

    if not hasattr(given, "__dlpack__"):
        raise InputTypeError(f"{whose} is a {type(given).__name__}; give a numpy array or a DLPack tensor")
    if is_on_a_device(given):
        raise InputError(f"{whose} lies in the memory of a device; give one in the memory of the host")
    try:
        return from_dlpack(given)
    except TypeError as error:
        raise InputTypeError(f"{whose} is {error}") from error


def _meets_itself(array: npt.NDArray[Any]) -> bool:
    """Whether two elements of an array may share memory."""
    if array.flags.c_contiguous or array.flags.f_contiguous or not array.size:
        return False
    reach = array.itemsize
    axes = sorted((abs(stride), size) for size, stride in zip(array.shape, array.strides, strict=True) if size > 1)
    for stride, size in axes:
        if stride < reach:
            return True
        reach = stride * (size - 1) + reach
    return False
