"""Operators whose output shape depends on the data: they write how much they found beside it.

All run as one unit: what comes first decides where the rest goes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from mace_core.native.numba_prelude import POLL_WORK, Kernel, f32, helper, i64, stop_requested
from mace_cpu.selection.kernels_heap import heap_of
from mace_cpu.shared.kernels.primitives import POINTERS, WORD_POINTERS, quotient

KERNEL_DEPENDENCIES = ("mace_cpu.shared.kernels.primitives", "mace_cpu.selection.kernels_heap")

WORDS = {
    "non_zero": "source target dims size rank shape[rank]",
    "non_max_suppression": "boxes scores most threshold lowest target dims order batches classes count corners",
    "unique": (
        "source values indices inverse counts values_dims indices_dims inverse_dims counts_dims scratch "
        "outer items inner sorted rank axis shape[rank]"
    ),
}

HALF_SIGN = 0x8000


def non_zero(width: str, kind: str) -> Kernel:
    """The target is (rank, found).

    The source is read twice and may be changed by another thread in between: what the first pass did not count is not
    written, and what it counted too much is zero.
    """
    pointer = WORD_POINTERS[width]
    # a float is zero with either sign
    mask = (1 << (8 * int(width) - 1)) - 1 if kind == "float" else (1 << (8 * int(width))) - 1
    drops_sign = kind == "float"

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        source = pointer(args[0])
        target = i64(args[1])
        dims = i64(args[2])
        size = args[3]
        rank = args[4]
        found = 0
        for i in range(size):
            if drops_sign:
                found += 1 if (source[i] & mask) != 0 else 0
            else:
                found += 1 if source[i] != 0 else 0
        dims[0] = rank
        dims[1] = found
        at = 0
        for i in range(size):
            word = source[i] & mask if drops_sign else source[i]
            if word != 0 and at < found:
                rest = i
                for axis in range(rank - 1, -1, -1):
                    outer = quotient(rest, args[5 + axis])
                    target[axis * found + at] = rest - outer * args[5 + axis]
                    rest = outer
                at += 1
        for missing in range(at, found):
            for axis in range(rank):
                target[axis * found + missing] = 0

    return kernel


@helper
def _before(scores: Any, a: Any, b: Any) -> Any:
    """Whether box ``a`` comes before ``b``: the higher score, then the lower index."""
    return scores[a] > scores[b] or (scores[a] == scores[b] and a < b)


OVERLAPS_AT_ONCE = 32
"""Boxes that one is compared with before looking whether any overlaps it: a compiler makes vectors of them."""


@helper
def _note_corners(boxes: Any, box: Any, corners: Any, at: Any, count: Any, centered: Any) -> None:
    """Write what is noted of a box to place ``at`` of ``count`` in ``corners``."""
    p = 4 * box
    if centered:
        half = boxes[p + 2] / 2
        x1, x2 = boxes[p] - half, boxes[p] + half
        half = boxes[p + 3] / 2
        y1, y2 = boxes[p + 1] - half, boxes[p + 1] + half
    else:
        y1, y2 = min(boxes[p], boxes[p + 2]), max(boxes[p], boxes[p + 2])
        x1, x2 = min(boxes[p + 1], boxes[p + 3]), max(boxes[p + 1], boxes[p + 3])
    corners[at] = x1
    corners[count + at] = x2
    corners[2 * count + at] = y1
    corners[3 * count + at] = y2
    corners[4 * count + at] = (x2 - x1) * (y2 - y1)


@helper
def _overlaps(corners: Any, count: Any, box: Any, selected: Any, threshold: Any) -> Any:
    """Whether the box noted at place ``box`` overlaps one of those noted before place ``selected`` too much.

    What is compared is intersection over union; it is 0 where a box has no area.
    """
    x1, x2 = corners[box], corners[count + box]
    y1, y2 = corners[2 * count + box], corners[3 * count + box]
    area = corners[4 * count + box]
    nothing = area * 0
    for first in range(0, selected, OVERLAPS_AT_ONCE):
        hits = 0
        for i in range(first, min(first + OVERLAPS_AT_ONCE, selected)):
            width = min(x2, corners[count + i]) - max(x1, corners[i])
            height = min(y2, corners[3 * count + i]) - max(y1, corners[2 * count + i])
            other = corners[4 * count + i]
            common = width * height
            share = common / (area + other - common)
            is_apart = (width <= 0) | (height <= 0) | (area <= 0) | (other <= 0)
            share = nothing if is_apart else share
            hits += 1 if share > threshold else 0
        if hits > 0:
            return True
    return False


def non_max_suppression(centered: str) -> Kernel:
    """``count`` boxes per batch; the target lists (batch, class, box).

    ``most``, ``threshold`` and ``lowest`` (score) are addresses of scalars, 0 where they are left out; ``order`` is
    scratch memory of ``count`` int64, ``corners`` of 5 float32 for one box more than ``count``: its corners and area.
    """
    is_centered = centered == "1"
    rise, sink = heap_of(_before)

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        target = i64(args[5])
        dims = i64(args[6])
        order = i64(args[7])
        classes = args[9]
        count = args[10]
        corners = f32(args[11])
        room = count + 1
        most = i64(args[2])[0] if args[2] != 0 else 0
        threshold = f32(args[3])[0] if args[3] != 0 else f32(args[1])[0] * 0
        found = 0
        work = 0
        for batch in range(args[8]):
            boxes = f32(args[0] + 16 * batch * count)
            for label in range(classes):
                scores = f32(args[1] + 4 * (batch * classes + label) * count)
                size = 0
                for i in range(count):
                    if args[4] == 0 or scores[i] > f32(args[4])[0]:
                        order[size] = i
                        rise(order, size, scores)
                        size += 1
                first = found
                while size > 0 and found - first < most:
                    work += 64 + 16 * (found - first)
                    if work > POLL_WORK:
                        work = 0
                        if stop_requested(args):
                            return
                    best = order[0]
                    size -= 1
                    order[0] = order[size]
                    sink(order, 0, size, scores)
                    selected = found - first
                    _note_corners(boxes, best, corners, selected, room, is_centered)
                    if not _overlaps(corners, room, selected, selected, threshold):
                        target[3 * found] = batch
                        target[3 * found + 1] = label
                        target[3 * found + 2] = best
                        found += 1
        dims[0] = found
        dims[1] = 3

    return kernel


class Slices(NamedTuple):
    """Slices along an axis: ``items`` of them, each of (outer, inner) elements."""

    source: Any
    outer: Any
    items: Any
    inner: Any


def _comparison(narrow: bool) -> Any:
    """``(slices, a, b)``: below 0, 0 or above 0 as slice a comes before b, equals it or comes behind it.

    A NaN comes behind all others; ``narrow``: the elements are the bits of half-precision floats.
    """

    @helper
    def key(word: Any) -> Any:
        """A number in the order of the element: itself, or one made of the bits of a half-precision float."""
        if narrow:
            bits = int(word)
            if bits == HALF_SIGN:
                bits = 0
            return 0xFFFF - bits if bits >= HALF_SIGN else bits + HALF_SIGN
        return word

    @helper
    def compare(slices: Any, a: Any, b: Any) -> Any:
        for o in range(slices.outer):
            for i in range(slices.inner):
                x = key(slices.source[(o * slices.items + a) * slices.inner + i])
                y = key(slices.source[(o * slices.items + b) * slices.inner + i])
                if x < y or (y != y and x == x):
                    return -1
                if y < x or (x != x and y == y):
                    return 1
        return 0

    return compare


def _sorting(compare: Any) -> Any:
    """``(order, slices, args)``: lists the slices in order; False if the run is to stop."""

    @helper
    def later(slices: Any, a: Any, b: Any) -> Any:
        order = compare(slices, a, b)
        return order > 0 or (order == 0 and a > b)

    _, sink = heap_of(later)

    @helper(inline="always")  # type: ignore[untyped-decorator]
    def sort(order: Any, slices: Any, args: Any) -> Any:
        for i in range(slices.items):
            order[i] = i
        for at in range(slices.items // 2 - 1, -1, -1):
            sink(order, at, slices.items, slices)
        work = 0
        for size in range(slices.items - 1, 0, -1):
            work += 64 + slices.outer * slices.inner
            if work > POLL_WORK:
                work = 0
                if stop_requested(args):
                    return False
            order[0], order[size] = order[size], order[0]
            sink(order, 0, size, slices)
        return True

    return sort


def _grouping(compare: Any) -> Any:
    """``(order, slices, firsts, inverse)``: finds the first slice of each group, and the group of each slice.

    It returns how many groups there are.
    """

    @helper(inline="always")  # type: ignore[untyped-decorator]
    def group_equals(order: Any, slices: Any, firsts: Any, inverse: Any) -> Any:
        groups = 0
        for i in range(slices.items):
            if i == 0 or compare(slices, order[i - 1], order[i]) != 0:
                firsts[groups] = order[i]
                groups += 1
            inverse[order[i]] = groups - 1
        return groups

    return group_equals


@helper(inline="always")  # type: ignore[untyped-decorator]
def _places(places: Any, groups: Any, firsts: Any, inverse: Any, items: Any, is_sorted: Any) -> None:
    """Where each group goes: as they are sorted, or in the order in which they first appear."""
    for group in range(groups):
        places[group] = group
    if not is_sorted:
        place = 0
        for i in range(items):
            group = inverse[i]
            if firsts[group] == i:
                places[group] = place
                place += 1


def unique(dtype: str, halves: str) -> Kernel:
    """Different items, where the first of each lies, which of them each item is, and how often each occurs.

    Items are slices along an axis, compared element by element.  The scratch holds three lists of ``items`` numbers:
    the items in order, the first item of each group, and where each group goes.
    """
    pointer = POINTERS[dtype]
    compare = _comparison(halves == "1")
    sort, group_equals = _sorting(compare), _grouping(compare)

    def kernel(args: Any, begin: Any, end: Any, chunk: Any) -> None:
        source, values = pointer(args[0]), pointer(args[1])
        indices, inverse, counts = i64(args[2]), i64(args[3]), i64(args[4])
        outer, items, inner = args[10], args[11], args[12]
        order, firsts, places = i64(args[9]), i64(args[9] + 8 * items), i64(args[9] + 16 * items)
        slices = Slices(source, outer, items, inner)
        if not sort(order, slices, args):
            return
        groups = group_equals(order, slices, firsts, inverse)
        _places(places, groups, firsts, inverse, items, args[13] != 0)
        for group in range(groups):
            place = places[group]
            counts[place] = 0
            indices[place] = firsts[group]
            for o in range(outer):
                for i in range(inner):
                    values[(o * groups + place) * inner + i] = source[(o * items + firsts[group]) * inner + i]
        for i in range(items):
            inverse[i] = places[inverse[i]]
            counts[inverse[i]] += 1
        dims = i64(args[5])
        for axis in range(args[14]):
            dims[axis] = args[16 + axis]
        dims[args[15]] = groups
        i64(args[6])[0] = groups
        i64(args[7])[0] = items
        i64(args[8])[0] = groups

    return kernel
