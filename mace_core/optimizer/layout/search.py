"""Finding orders: step by step, each of which is known to move less for all sizes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from mace_core.graph import Node, Value
from mace_core.optimizer.layout.cut import UNLIMITED, Cut
from mace_core.optimizer.layout.orders import Order
from mace_core.optimizer.layout.problem import Cost, Problem, Use, weight
from mace_core.symbolic import is_symbolic, polynomial_of

MAX_STEPS = 10_000
"""A guard; each step that is taken makes the rest smaller."""

NODES = 1 << 10
"""How many nodes count as one byte that is moved: more than there are between two convolutions of any model."""


class _Seed(NamedTuple):
    """Where elements are moved: a value that is computed in one order and wanted in another."""

    value: Value
    wanted: Order


def improve(problem: Problem) -> int:
    """Change the orders of nodes until no step makes it better; returns the number of steps.

    A step lets one value be computed as it is wanted, or read as it is computed; follows what becomes of its neighbors,
    and theirs, as far as they can follow; and takes the part of it that leaves the least to be moved (a minimum cut).
    """
    steps = 0
    refused: set[tuple[_Seed, bool]] = set()
    pending = deque(_mismatches(problem, problem.values()))
    while pending and steps < MAX_STEPS:
        seed = pending.popleft()
        for forward in (True, False):
            if (seed, forward) in refused or seed.wanted == problem.given(seed.value):
                continue
            chosen = _cheapest(problem, _followed(problem, seed, forward))
            touched = dict.fromkeys(value for node in chosen for value in problem.around(node))
            if chosen and _is_better(problem, chosen, touched):
                problem.orders.update(chosen)
                steps += 1
                refused.clear()
                pending.extend(_mismatches(problem, touched))
                break
            refused.add((seed, forward))
    return steps


def _mismatches(problem: Problem, values: Iterable[Value]) -> Iterator[_Seed]:
    """Where something has to be moved now, the largest first."""
    found: list[_Seed] = []
    for value in values:
        if value.constant is not None:
            continue
        given = problem.given(value)
        wanted = dict.fromkeys(problem.fixed.get(value, ()))
        wanted.update(dict.fromkeys(problem.wanted(use) for use in problem.uses.get(value, ())))
        found += [_Seed(value, order) for order in wanted if order != given]
    yield from sorted(found, key=lambda seed: -weight(problem.nbytes(seed.value)))


def _followed(problem: Problem, seed: _Seed, forward: bool) -> dict[Node, Order]:
    """The orders that nodes would have if readers of a value took it as it is computed (forward), or if it were
    computed as it is wanted."""
    proposed: dict[Node, Order] = {}
    queue: deque[tuple[Value, Order]] = deque()

    def propose(node: Node, order: Order | None) -> None:
        if order is None or node in proposed:
            return
        proposed[node] = order
        if order == problem.order_of(node):
            return
        found = problem.maps[node]
        for index in found.outputs:
            value = node.outputs[index]
            if value is not None:
                queue.append((value, problem.given(value, proposed)))
        for index in found.inputs:
            value = node.inputs[index]
            if value is not None:
                source, own = problem.source(value)
                queue.append((source, problem.wanted(Use(node, index, own), order)))

    if forward:
        for use in problem.uses.get(seed.value, ()):
            if problem.wanted(use) == seed.wanted:
                propose(use.node, problem.order_for(use, problem.given(seed.value)))
    else:
        maker = problem.order_giving(seed.value, seed.wanted)
        if maker is not None:
            propose(*maker)
    while queue:
        value, order = queue.popleft()
        if value.constant is not None or len(order) < 2:
            continue
        maker = problem.order_giving(value, order)
        if maker is not None:
            propose(*maker)
        for use in problem.uses.get(value, ()):
            propose(use.node, problem.order_for(use, order))
    return {node: order for node, order in proposed.items() if order != problem.order_of(node)}


def _cheapest(problem: Problem, proposed: Mapping[Node, Order]) -> dict[Node, Order]:
    """The part of a proposal that leaves the least to be moved.

    A node is on the sink's side if it takes its new order.  What moves a value once for several readers is one node
    more in the network.  A few terms fit no network (readers that come to want what is computed now): they are counted
    in full.
    """
    if not proposed:
        return {}
    cut = Cut()
    place = {node: cut.node() for node in proposed}
    for node, order in proposed.items():
        cut.edge(place[node], 1, NODES * weight(problem.parts(node)))
        cut.edge(0, place[node], NODES * weight(problem.parts(node, order)))
    for value in dict.fromkeys(value for node in proposed for value in problem.around(node)):
        if value.constant is None:
            _add_value(problem, cut, place, proposed, value, _what_is_moved(problem, value), problem.nbytes(value))
            _add_value(problem, cut, place, proposed, value, _exactly, 0)
    sink_side = cut.sink_side()
    return {node: order for node, order in proposed.items() if place[node] in sink_side}


def _what_is_moved(problem: Problem, value: Value) -> Callable[[Order], Order]:
    """What a Transpose between two orders tells that moves nothing: nothing."""
    return lambda order: problem.telling(value, order)


def _exactly(order: Order) -> Order:
    return order


def _add_value(
    problem: Problem,
    cut: Cut,
    place: Mapping[Node, int],
    proposed: Mapping[Node, Order],
    value: Value,
    key: Callable[[Order], Order],
    nbytes: int,
) -> None:
    """The terms of one value: bytes where two orders differ in their ``key``, and a node."""
    price = NODES * weight(nbytes) + 1
    now = key(problem.given(value))
    then = key(problem.given(value, proposed))
    maker = problem.makers.get(value)
    made_by = place.get(maker[0]) if maker is not None else None
    if made_by is None:
        then = now
    staying: dict[Order, list[int]] = {}
    going: dict[Order, list[int]] = {}
    always = {key(order) for order in problem.fixed.get(value, ())}
    for use in problem.uses.get(value, ()):
        before = key(problem.wanted(use))
        if use.node not in place:
            always.add(before)
            continue
        after = key(problem.wanted(use, proposed[use.node]))
        if before == after:
            always.add(before)
        else:
            staying.setdefault(before, []).append(place[use.node])
            going.setdefault(after, []).append(place[use.node])
    for order in always:
        if made_by is not None and order == now != then:
            cut.edge(0, made_by, price)
        elif made_by is not None and order == then != now:
            cut.edge(made_by, 1, price)
    for order, readers in staying.items():
        if order in always or order == now == then:
            continue
        moved = cut.node()
        for reader in readers:
            cut.edge(reader, moved, UNLIMITED)
        cut.edge(moved, made_by if made_by is not None and order == now else 1, price)
    for order, readers in going.items():
        if order in always or order == now == then:
            continue
        moved = cut.node()
        for reader in readers:
            cut.edge(moved, reader, UNLIMITED)
        cut.edge(made_by if made_by is not None and order == then else 0, moved, price)


def _is_better(problem: Problem, chosen: Mapping[Node, Order], touched: Iterable[Value]) -> bool:
    """Whether less is moved, whatever the sizes are, or as much in fewer pieces; by Transposes not more in any case."""
    before, after = Cost(), Cost()
    for value in touched:
        before += problem.cost(value)
        after += problem.cost(value, chosen)
    if not (is_less(problem, after, before) or after == before):
        return False
    parts = sum(problem.parts(node, order) - problem.parts(node) for node, order in chosen.items())
    return is_less(problem, after + Cost(parts), before)


def is_less(problem: Problem, first: Cost, second: Cost) -> bool:
    """Whether the first cost is known to be less than the second."""
    difference = first.nbytes - second.nbytes
    if is_symbolic(difference):
        trace = problem.facts.trace
        assert trace is not None
        return trace.known(polynomial_of(difference), "<") is True
    counts = [(cost.transposes, cost.nodes) for cost in (first, second)]
    return difference < 0 or (difference == 0 and counts[0] < counts[1])
