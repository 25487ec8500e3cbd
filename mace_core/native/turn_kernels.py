"""What happens between two turns of a loop, see `mace_core.native.turns`."""

from __future__ import annotations

from typing import Any

from mace_core.native.numba_prelude import Kernel, helper, i32, i64, u8
from mace_core.native.size_kernels import evaluate_sizes
from mace_core.native.turns import (
    CARRIED_WORDS,
    CHECK_WORDS,
    CONTENT_WORDS,
    COPY_WORDS,
    END_COUNT,
    END_FALSE,
    END_ROOM,
    END_SIZES,
    EQUAL_WORDS,
    GUARD_WORDS,
    MOVE_WORDS,
    ON,
    PLACE_WORDS,
    SCAN_WORDS,
    SIZE_WORDS,
    STRIDE_WORDS,
    SUM_WORDS,
    WORD_WORDS,
    E,
    W,
)

KERNEL_DEPENDENCIES = ("mace_core.native.size_kernels", "mace_core.native.turns")


@helper
def _content(feeds: Any, feed: Any, item: Any, is_wide: Any) -> Any:
    """An integer that a feed holds."""
    if is_wide:
        return i64(feeds[feed])[item]
    return i32(feeds[feed])[item] + 0


@helper
def _target(state: Any, kind: Any, index: Any) -> Any:
    """Where this turn writes a carried value (0) or a scan output (1); or a place that does not change (2)."""
    if kind == 0:
        carried = i64(state[W.carried])
        first = CARRIED_WORDS * index
        return carried[first + 1 + carried[first + 5]]
    if kind == 1:
        scans = i64(state[W.scans])
        return scans[SCAN_WORDS * index] + scans[SCAN_WORDS * index + 1]
    return index


@helper
def _copy(state: Any, registers: Any) -> None:
    """What a turn hands on without computing it, and what it hands on twice."""
    copies = i64(state[W.copies])
    for i in range(state[W.copy_count]):
        first = COPY_WORDS * i
        kind = copies[first]
        index = copies[first + 1]
        target = u8(_target(state, kind, index))
        address = copies[first + 3]
        if copies[first + 2] == 0:
            address = i64(state[W.feeds])[address]
        elif copies[first + 2] == 1:
            address = i64(state[W.addresses])[address]
        source = u8(address)
        if kind == 0:
            nbytes = registers[i64(state[W.carried])[CARRIED_WORDS * index + 6]]
        else:
            nbytes = registers[i64(state[W.scans])[SCAN_WORDS * index + 3]]
        for k in range(nbytes):
            target[k] = source[k]


@helper
def _end_turn(state: Any, registers: Any) -> Any:
    """Let the results of a turn be the inputs of the next; why there is to be none."""
    end = ON
    feeds = i64(state[W.feeds])
    condition = state[W.condition]
    if condition >= 0 and u8(i64(state[W.addresses])[condition])[0] == 0:
        end = END_FALSE
    _copy(state, registers)
    carried = i64(state[W.carried])
    for i in range(state[W.carried_count]):
        first = CARRIED_WORDS * i
        feeds[carried[first]] = carried[first + 1 + carried[first + 5]]
        carried[first + 5] = 1 - carried[first + 5]
    scans = i64(state[W.scans])
    for i in range(state[W.scan_count]):
        scans[SCAN_WORDS * i + 1] += registers[scans[SCAN_WORDS * i + 3]]
    strides = i64(state[W.strides])
    for i in range(state[W.stride_count]):
        feeds[strides[STRIDE_WORDS * i]] += strides[STRIDE_WORDS * i + 1]
    shapes = i64(state[W.shapes])
    dims = i64(state[W.dims])
    for i in range(state[W.dim_count]):
        dims[i] = registers[shapes[i]]
    if state[W.counter] != 0:
        i64(state[W.counter])[0] += 1
    state[W.turn] += 1
    state[W.is_begun] = 0
    same = i64(state[W.same])
    for i in range(state[W.same_count]):
        if registers[same[i]] != 0 and end == ON:
            end = END_SIZES
    moves = i64(state[W.moves])
    for i in range(state[W.move_count]):
        moves[MOVE_WORDS * i + 2] = registers[moves[MOVE_WORDS * i + 1]]
    for i in range(state[W.move_count]):
        registers[moves[MOVE_WORDS * i]] = moves[MOVE_WORDS * i + 2]
    state[W.is_stale] = 1
    return end


@helper
def _compute_sizes(state: Any, registers: Any) -> Any:
    """Compute what follows from the sizes of this turn; whether the plan holds for them."""
    feeds = i64(state[W.feeds])
    contents = i64(state[W.contents])
    for i in range(state[W.content_count]):
        first = CONTENT_WORDS * i
        registers[contents[first]] = _content(feeds, contents[first + 1], contents[first + 2], contents[first + 3])
    checks = i64(state[W.checks])
    for i in range(state[W.check_count]):
        first = CHECK_WORDS * i
        if _content(feeds, checks[first], checks[first + 1], checks[first + 2]) != checks[first + 3]:
            return False
    symbols = state[W.symbols]
    for i in range(symbols):
        if registers[i] > state[W.largest] or registers[i] < -state[W.largest]:
            return False
    evaluate_sizes(i64(state[W.rows]), state[W.row_count], symbols, registers)
    guards = i64(state[W.guards])
    for i in range(state[W.guard_count]):
        value = registers[guards[GUARD_WORDS * i]]
        holds = (
            value < guards[GUARD_WORDS * i + 1] if guards[GUARD_WORDS * i + 2] else value == guards[GUARD_WORDS * i + 1]
        )
        if holds != (guards[GUARD_WORDS * i + 3] != 0):
            return False
    sizes = i64(state[W.sizes])
    for i in range(state[W.size_count]):
        value = registers[sizes[SIZE_WORDS * i + 1]]
        if sizes[SIZE_WORDS * i + 2]:
            i64(sizes[SIZE_WORDS * i])[0] = value
        else:
            i32(sizes[SIZE_WORDS * i])[0] = value
    return True


@helper
def _has_room(state: Any, registers: Any) -> Any:
    """Whether everything that this turn writes has room."""
    if registers[state[W.arena_bytes]] > state[W.arena_room]:
        return False
    carried = i64(state[W.carried])
    for i in range(state[W.carried_count]):
        first = CARRIED_WORDS * i
        if registers[carried[first + 6]] > carried[first + 3 + carried[first + 5]]:
            return False
    scans = i64(state[W.scans])
    for i in range(state[W.scan_count]):
        first = SCAN_WORDS * i
        if scans[first + 1] + registers[scans[first + 3]] > scans[first + 2]:
            return False
    return True


@helper
def _begin_turn(state: Any, registers: Any) -> None:
    """Say where the turn reads and writes."""
    addresses = i64(state[W.addresses])
    addresses[0] = state[W.arena] + registers[state[W.workspace_offset]]
    inputs = i64(state[W.inputs])
    feeds = i64(state[W.feeds])
    for i in range(state[W.input_count]):
        place = inputs[PLACE_WORDS * i + 1]
        addresses[1 + i] = feeds[place] if inputs[PLACE_WORDS * i] == 0 else place
    outputs = i64(state[W.outputs])
    first = 1 + state[W.input_count]
    for i in range(state[W.output_count]):
        addresses[first + i] = _target(state, outputs[PLACE_WORDS * i], outputs[PLACE_WORDS * i + 1])
    state[W.is_begun] = 1


def advance_turn() -> Kernel:
    """One call ends a turn, if one has begun, and begins the next, or says why not."""

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        registers = i64(args[W.registers])
        if args[W.is_begun] != 0:
            why = _end_turn(args, registers)
            if why != ON:
                args[W.end] = why
                return
        if args[W.turn] >= args[W.turns]:
            args[W.end] = END_COUNT
            return
        if args[W.is_stale] != 0:
            if not _compute_sizes(args, registers):
                args[W.end] = END_SIZES
                return
            args[W.is_stale] = 0
        if not _has_room(args, registers):
            args[W.end] = END_ROOM
            return
        _begin_turn(args, registers)
        args[W.end] = ON

    return kernel


def enter_stage() -> Kernel:
    """Hands what stages before computed to one that is to run, once: see `mace_core.native.turns.EnterWords`."""

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        words = i64(args[E.words])
        for i in range(args[E.word_count]):
            i64(words[WORD_WORDS * i])[0] = i64(words[WORD_WORDS * i + 1])[0]
        sums = i64(args[E.sums])
        for i in range(args[E.sum_count]):
            first = SUM_WORDS * i
            i64(sums[first])[0] = i64(sums[first + 1])[0] + i64(sums[first + 2])[0]
        state = i64(args[E.state])
        state[W.turn] = 0
        state[W.is_begun] = 0
        state[W.is_stale] = 1
        state[W.end] = ON
        equal = i64(args[E.equal])
        for i in range(args[E.equal_count]):
            if i64(equal[EQUAL_WORDS * i])[0] != i64(equal[EQUAL_WORDS * i + 1])[0]:
                state[W.end] = END_SIZES

    return kernel
