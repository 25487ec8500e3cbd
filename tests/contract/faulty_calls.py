"""Every call of the contract, with what it may do wrong: the table that the tests of faulty providers walk through."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import scheduler_stand_ins as stand_ins
from scheduler_stand_ins import StandInBackend, StandInProvider

from mace_core.provider import Buffer, Capability, Claim, ForeignKind, Missing, ProbeResult
from mace_core.tensor import MemoryKind

Deed = Callable[..., Any]


def returning(answer: object) -> Deed:
    return lambda *arguments, **named: answer


@dataclass(frozen=True)
class Call:
    """One method or attribute of the contract.

    Attributes:
        name: ``Class.method``, as messages call it.
        owner: the stand-in's class that the fault is put into.
        wrong: label -> what it does instead of answering rightly; nothing for what answers nothing.
        provider: attributes of the stand-in provider under which the core makes the call.
        is_attribute: it is read, not called.
        needs: what the run has to be like: "second start", "profile", "options", "peak", "failure", "dynamic", "turns",
            "pressure".
    """

    name: str
    owner: type
    wrong: Mapping[str, Deed] = field(default_factory=dict)
    provider: Mapping[str, Any] = field(default_factory=dict)
    is_attribute: bool = False
    needs: str = ""

    @property
    def method(self) -> str:
        return self.name.partition(".")[2]


NONE = {"None": returning(None)}
JUNK = {**NONE, "an object": returning(object())}
OWN_MEMORY = {"memory": MemoryKind.DEVICE}
IMPORTS = {"memory": MemoryKind.DEVICE, "imports": frozenset({ForeignKind.HOST})}
QUEUE = {"memory": MemoryKind.DEVICE, "has_queue": True}

CALLS = [
    Call(
        "ExecutionProvider.probe",
        StandInProvider,
        {
            **JUNK,
            "devices that are none": returning(ProbeResult(devices=(None,))),  # type: ignore[arg-type]
            "no devices at all": returning(ProbeResult(devices=None)),  # type: ignore[arg-type]
            "files that are none": returning(ProbeResult(depends_on=(3,))),  # type: ignore[arg-type]
            "missing things that are none": returning(ProbeResult(missing=("a library",))),  # type: ignore[arg-type]
            "a good reason": returning(ProbeResult(missing=(Missing("a", "b"), None))),  # type: ignore[arg-type]
        },
    ),
    Call(
        "ExecutionProvider.probe_with", StandInProvider, JUNK, {"probe_options": frozenset({"speed"})}, needs="options"
    ),
    Call("ExecutionProvider.open", StandInProvider, JUNK),
    Call(
        "Backend.capability",
        StandInBackend,
        {
            **JUNK,
            "claims None": returning(Capability(None)),  # type: ignore[arg-type]
            "a claim of None": returning(Capability([None])),  # type: ignore[list-item]
            "a claim of nothing": returning(Capability([Claim(None)])),  # type: ignore[arg-type]
            "a claim of names": returning(Capability([Claim(("Neg_t0",))])),  # type: ignore[arg-type]
            "rejects None": returning(Capability((), [None])),  # type: ignore[list-item]
        },
    ),
    Call(
        "Backend.compile",
        StandInBackend,
        {**JUNK, "[None]": returning([None]), "too few": returning([]), "text": returning("x")},
    ),
    Call(
        "Backend.allocators", StandInBackend, {**JUNK, "none": returning(()), "[None]": returning([None])}, OWN_MEMORY
    ),
    Call("Backend.transfer", StandInBackend, JUNK, OWN_MEMORY),
    Call("Backend.create_stream", StandInBackend, {"an object": returning(object())}, QUEUE),
    Call("Backend.import_memory", StandInBackend, {"an object": returning(object())}, IMPORTS),
    Call("Backend.release_memory", StandInBackend, {}, IMPORTS),
    Call("Backend.imports", StandInBackend, {**JUNK, "text": returning(("host",))}, IMPORTS, is_attribute=True),
    Call("Backend.serialize", StandInBackend, {"an object": returning(object())}),
    Call("Backend.serialize_parts", StandInBackend, {"an object": returning(object()), "[None]": returning([None])}),
    Call("Backend.compatibility_key", StandInBackend, JUNK, needs="stores"),
    Call("Backend.check_compatibility", StandInBackend, {**JUNK, "True": returning(True)}, needs="second start"),
    Call("Backend.deserialize", StandInBackend, {**JUNK, "[None]": returning([None])}, needs="second start"),
    Call("Backend.deserialize_view", StandInBackend, {**JUNK, "too few": returning([])}, needs="second start"),
    Call("Backend.measure_peak", StandInBackend, {"text": returning("fast")}, needs="peak"),
    Call("Backend.trim", StandInBackend, {**JUNK, "text": returning("much")}, needs="pressure"),
    Call("Backend.close", StandInBackend),
    Call("Backend.shape_support", StandInBackend, JUNK, is_attribute=True),
    Call("Backend.compiles_per_shape", StandInBackend, is_attribute=True),
    Call(
        "Backend.buckets",
        StandInBackend,
        {"an object": returning(object()), "sizes": returning((1, 2, 4))},
        is_attribute=True,
    ),
    Call("Backend.notes", StandInBackend, {**JUNK, "(None,)": returning((None,))}, is_attribute=True),
    Call("CompiledSubgraph.new_execution", stand_ins.StandInSubgraph, JUNK),
    Call("CompiledSubgraph.close", stand_ins.StandInSubgraph),
    Call(
        "CompiledSubgraph.workspace_bytes",
        stand_ins.StandInSubgraph,
        {**JUNK, "less than nothing": returning(-1), "text": returning("8")},
        is_attribute=True,
    ),
    Call("CompiledSubgraph.notes", stand_ins.StandInSubgraph, JUNK, is_attribute=True),
    Call("CompiledSubgraph.source_map", stand_ins.StandInSubgraph, JUNK, is_attribute=True),
    Call(
        "CompiledSubgraph.consumed_constants",
        stand_ins.StandInSubgraph,
        {**JUNK, "numbers": returning([3]), "text": returning("weights")},
        is_attribute=True,
    ),
    Call(
        "CompiledSubgraph.in_place",
        stand_ins.StandInSubgraph,
        {**JUNK, "what was not offered": returning(frozenset({0})), "names": returning(frozenset({"present"}))},
        is_attribute=True,
    ),
    Call("Execution.run", stand_ins.StandInExecution),
    Call("Execution.run_turns", stand_ins.StandInExecution, {**JUNK, "too early": returning(True)}, needs="turns"),
    Call("Execution.enqueue", stand_ins.StandInExecution, JUNK, QUEUE),
    Call("Execution.close", stand_ins.StandInExecution),
    Call(
        "Allocator.allocate",
        stand_ins.DeviceMemory,
        {**JUNK, "too little": returning(Buffer(MemoryKind.DEVICE, 1))},
        OWN_MEMORY,
    ),
    Call("Allocator.free", stand_ins.DeviceMemory, {}, OWN_MEMORY),
    Call(
        "Allocator.memory", stand_ins.DeviceMemory, {**JUNK, "text": returning("device")}, OWN_MEMORY, is_attribute=True
    ),
    Call("DataTransfer.to_device", stand_ins.CountingTransfer, {}, OWN_MEMORY),
    Call("DataTransfer.to_host", stand_ins.CountingTransfer, {}, OWN_MEMORY),
    Call("DataTransfer.enqueue_to_device", stand_ins.CountingTransfer, {"an object": returning(object())}, QUEUE),
    Call("DataTransfer.enqueue_to_host", stand_ins.CountingTransfer, {"an object": returning(object())}, QUEUE),
    Call("Stream.synchronize", stand_ins.LazyStream, {}, QUEUE, needs="failure"),
    Call("Stream.close", stand_ins.LazyStream, {}, QUEUE),
    Call("Event.wait", stand_ins.LazyEvent, {}, QUEUE),
]
