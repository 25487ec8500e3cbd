"""One walk of planning with sizes that are not decided: the symbols, and every decision that depended on them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from mace_core.symbolic import polynomial as poly
from mace_core.symbolic.polynomial import Interval, Key, Polynomial

SMALLEST_SIZE = 2
"""A size of 0 or 1 changes what a graph means (nothing to do, broadcasting): such a dimension is no symbol."""

LARGEST_SIZE = 1 << 24
"""What a symbol may be at most: then questions of overflow and of memory have one answer, mostly."""

LARGEST_VALUE = 1 << 62
"""What no expression may exceed: programs compute with 64 bits."""

Operation: TypeAlias = Literal["//", "min", "max"]


class Atom(NamedTuple):
    """What a polynomial is made of: a symbol, or an operation that no polynomial can express.

    Attributes:
        name: of a symbol, "" for an operation.
        operation, left, right: of an operation.
        hint: its value for the shapes that the trace was made with.
    """

    name: str
    hint: int
    operation: Operation | None = None
    left: Polynomial = poly.ZERO
    right: Polynomial = poly.ZERO


@dataclass(frozen=True, slots=True)
class Guard:
    """A decision that was made on the way: what was planned holds only where it comes out the same.

    Attributes:
        expression: what was asked about.
        relation: ``==`` whether it is 0, ``<`` whether it is less.
        outcome: the answer for the shapes that the trace was made with.
    """

    expression: Polynomial
    relation: Literal["==", "<"]
    outcome: bool


class TraceState(NamedTuple):
    """All that a trace knows, as `mace_core.symbolic.stored` keeps it.

    Attributes:
        symbols: how many of the atoms are symbols.
        atoms, guards: in the order in which they were made.
        bounds: by atom.
        learned: bounds of expressions of several terms.
        largest: see `Trace.largest_symbol`.
    """

    symbols: int
    atoms: tuple[Atom, ...]
    guards: tuple[Guard, ...]
    bounds: tuple[Interval, ...]
    learned: Mapping[Key, Interval]
    largest: int


class Trace:
    """The symbols of one structure, the expressions over them, and the guards.

    While it is open, a question about a symbolic integer whose answer depends on the symbols is answered for the shapes
    at hand and noted as a guard.  After `close` such questions are defects.

    Attributes:
        atoms: symbols first, in the order in which they were made.
        guards: in the order in which they were asked.
    """

    def __init__(self) -> None:
        self.atoms: list[Atom] = []
        self.symbols = 0
        self.guards: dict[tuple[str, Key], Guard] = {}
        self._bounds: list[Interval] = []
        self._numbers: dict[tuple[str, Key, Key], int] = {}
        self._is_open = True
        self._computed: list[Polynomial] = []
        self._learned: dict[Key, Interval] = {}
        self._largest = LARGEST_SIZE
        self._restored = 0  # atoms of which, with all that was computed, `largest_symbol` is known
        self._checked = 0  # expressions that were computed with these alone

    @staticmethod
    def restored(state: TraceState) -> Trace:
        """A trace that knows what another one knew."""
        trace = Trace()
        trace.symbols, trace.atoms = state.symbols, list(state.atoms)
        trace.guards = {(guard.relation, poly.key_of(guard.expression)): guard for guard in state.guards}
        trace._bounds, trace._learned, trace._largest = list(state.bounds), dict(state.learned), state.largest
        for number, (_, _, operation, left, right) in enumerate(state.atoms):
            if operation is not None:
                trace._numbers[operation, poly.key_of(left), poly.key_of(right)] = number
        trace._restored = len(trace.atoms)
        return trace

    def state(self) -> TraceState:
        """All that it knows."""
        atoms, guards, bounds = tuple(self.atoms), tuple(self.guards.values()), tuple(self._bounds)
        return TraceState(self.symbols, atoms, guards, bounds, self._learned, self._largest)

    # --- making ---------------------------------------------------------------------------------------------------

    def symbol(self, name: str, hint: int, low: int = SMALLEST_SIZE, high: int = LARGEST_SIZE) -> Polynomial:
        """A new symbol between two bounds, which are guards; see `mace_core.symbolic.new_symbol`.

        Raises:
            ValueError: if the hint is not between them, or expressions have been made already.
        """
        if not low <= hint <= high:
            raise ValueError(f"'{name}' is {hint}, which is not between {low} and {high}")
        if self.symbols != len(self.atoms):
            raise ValueError("symbols are made before expressions of them")
        number = len(self.atoms)
        self.atoms.append(Atom(name, hint))
        self._bounds.append((-math.inf, math.inf))
        self.symbols += 1
        expression = poly.atom(number)
        self.decide(poly.add(expression, poly.constant(low), -1), "<")
        self.decide(poly.add(poly.constant(high), expression, -1), "<")
        return expression

    def product(self, left: Polynomial, right: Polynomial) -> Polynomial:
        """``left * right``; terms that are multiplied out tell less of where a product lies than its factors do."""
        result = poly.multiply(left, right)
        if len(left) > 1 or len(right) > 1:
            self._learn(result, poly.interval_of_product(self.interval(left), self.interval(right)))
        return result

    def sum(self, left: Polynomial, right: Polynomial, factor: int = 1) -> Polynomial:
        """``left + factor * right``."""
        result = poly.add(left, right, factor)
        if self._learned and (self._has_learned(left) or self._has_learned(right)):
            low, high = poly.interval_of_product(self.interval(right), (factor, factor))
            first = self.interval(left)
            self._learn(result, (first[0] + low, first[1] + high))
        return result

    def _has_learned(self, expression: Polynomial) -> bool:
        return len(expression) > 1 and poly.key_of(expression) in self._learned

    def _learn(self, expression: Polynomial, interval: Interval) -> None:
        """Note where a value lies that consists of several terms."""
        if len(expression) > 1:
            key = poly.key_of(expression)
            self._learned[key] = _both(self._learned.get(key, interval), interval)

    def floor_division(self, left: Polynomial, right: Polynomial) -> Polynomial:
        """``left // right``.

        Raises:
            ZeroDivisionError: if ``right`` is 0 for the shapes at hand.
        """
        if self.decide(right, "=="):
            raise ZeroDivisionError("division of a size by zero")
        exact = poly.divide_exactly(left, right)
        if exact is not None:
            return exact
        divisor = poly.as_constant(right)
        if divisor is None:
            return poly.atom(self._atom("//", left, right))
        if divisor < 0:
            return self.floor_division(poly.scale(left, -1), poly.constant(-divisor))
        whole = {m: c // divisor for m, c in left.items() if m == poly.ONE or c % divisor == 0}
        whole = {m: c for m, c in whole.items() if c}
        rest = poly.add(left, whole, -divisor)
        if poly.as_constant(rest) is not None:  # of a constant, between 0 and the divisor
            return whole
        lead = max(rest, key=lambda monomial: (len(monomial), monomial))
        if rest[lead] < 0:  # floor(-x / d) = -floor((x + d - 1) / d): one form for both ways to round up
            turned = poly.add(poly.scale(rest, -1), poly.constant(divisor - 1))
            return poly.add(whole, self.floor_division(turned, right), -1)
        return poly.add(whole, self._quotient(rest, divisor))

    def _quotient(self, left: Polynomial, divisor: int) -> Polynomial:
        """``left // divisor`` of a polynomial from which no multiple of the divisor can be taken out."""
        shared = math.gcd(divisor, *(c for m, c in left.items() if m))
        if shared > 1:  # floor((g x + c) / (g d)) = floor((x + floor(c / g)) / d)
            return self.floor_division(
                {m: c // shared for m, c in left.items() if c // shared}, poly.constant(divisor // shared)
            )
        inner = self._only_atom(left)
        nested = None if inner is None or left[(inner,)] != 1 else self._divided(inner)
        if nested is not None:  # floor((floor(x / e) + c) / d) = floor((x + c e) / (d e))
            x, e = nested
            offset = poly.constant(left.get(poly.ONE, 0) * e)
            return self.floor_division(poly.add(x, offset), poly.constant(divisor * e))
        return poly.atom(self._atom("//", left, poly.constant(divisor)))

    def _only_atom(self, expression: Polynomial) -> int | None:
        """The atom of an expression that is a multiple of it, plus a number."""
        atoms = [monomial for monomial in expression if monomial]
        return atoms[0][0] if len(atoms) == 1 and len(atoms[0]) == 1 else None

    def _divided(self, number: int) -> tuple[Polynomial, int] | None:
        """What an atom is the quotient of, where the divisor is a number."""
        atom = self.atoms[number]
        divisor = poly.as_constant(atom.right) if atom.operation == "//" else None
        return None if divisor is None else (atom.left, divisor)

    def extreme(self, operation: Literal["min", "max"], left: Polynomial, right: Polynomial) -> Polynomial:
        """The smaller or the larger one, without a decision which one that is."""
        difference = poly.add(left, right, -1)
        known = self._known(difference, "<")
        if known is not None:
            return left if known is (operation == "min") else right
        first, second = sorted((left, right), key=poly.key_of)
        return poly.atom(self._atom(operation, first, second))

    def _atom(self, operation: Operation, left: Polynomial, right: Polynomial) -> int:
        key = (operation, poly.key_of(left), poly.key_of(right))
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self.atoms)
            a, b = self.value(left), self.value(right)
            hint = a // b if operation == "//" else min(a, b) if operation == "min" else max(a, b)
            self.atoms.append(Atom("", hint, operation, left, right))
            self._bounds.append(_operation_bounds(operation, self.interval(left), self.interval(right)))
        return number

    # --- deciding -------------------------------------------------------------------------------------------------

    def decide(self, expression: Polynomial, relation: Literal["==", "<"]) -> bool:
        """Whether ``expression`` is 0, or less than 0; a guard where that depends on the symbols.

        Raises:
            RuntimeError: if it depends on them and the trace is closed.
        """
        known = self._known(expression, relation)
        if known is not None:
            return known
        simpler = self._simpler(expression, relation)
        if simpler is not None:
            question, outcome = simpler
            return self.decide(question, "<") is outcome
        normal = _normal(expression, relation)
        key = (relation, poly.key_of(normal))
        guard = self.guards.get(key)
        if guard is None:
            if not self._is_open:
                raise RuntimeError(f"a plan is made, and somebody decides on {self.text(normal)} {relation} 0")
            value = self.value(normal)
            guard = Guard(normal, relation, value == 0 if relation == "==" else value < 0)
            self.guards[key] = guard
            self._narrow(guard)
        return guard.outcome

    def _simpler(self, expression: Polynomial, relation: Literal["==", "<"]) -> tuple[Polynomial, bool] | None:
        """An equivalent question whether something is less than 0, and which answer to it is a yes to this one.

        Of a quotient, what is divided is compared; being equal to a bound is being less than the next number.
        """
        number = self._only_atom(expression)
        if number is None:
            return None
        slope, offset = expression[(number,)], expression.get(poly.ONE, 0)
        atom = poly.atom(number)
        if relation == "==":
            low, high = self._bounds[number]
            root = -offset // slope  # without a rest: else it is known not to be
            if root == low:
                return poly.add(atom, poly.constant(root + 1), -1), True
            return (poly.add(atom, poly.constant(root), -1), False) if root == high else None
        divided = self._divided(number)
        if divided is None:
            return None
        x, divisor = divided
        if slope > 0:  # x // d < k
            return poly.add(x, poly.constant(-(offset // slope) * divisor), -1), True
        return poly.add(x, poly.constant((offset // -slope + 1) * divisor), -1), False

    def known(self, expression: Polynomial, relation: Literal["==", "<"]) -> bool | None:
        """The answer, where what was decided so far tells it; adds no guard."""
        known = self._known(expression, relation)
        if known is not None or not expression:
            return known
        simpler = self._simpler(expression, relation)
        if simpler is not None:
            question, outcome = simpler
            found = self.known(question, "<")
            return None if found is None else found is outcome
        guard = self.guards.get((relation, poly.key_of(_normal(expression, relation))))
        return None if guard is None else guard.outcome

    def value(self, expression: Polynomial) -> int:
        """The value for the shapes that the trace was made with."""
        return poly.evaluate(expression, lambda number: self.atoms[number].hint)

    def interval(self, expression: Polynomial) -> Interval:
        """An interval that holds the value for all shapes that the guards so far admit."""
        found = poly.interval(expression, self._bounds.__getitem__)
        learned = self._learned.get(poly.key_of(expression)) if self._learned and len(expression) > 1 else None
        return found if learned is None else _both(found, learned)

    def conditions(self) -> list[Guard]:
        """The guards without those that follow from another one about the same terms."""
        others: list[Guard] = []
        tightest: dict[Key, tuple[int, int, Guard]] = {}  # with the quotient that says how tight it is
        for guard in self.guards.values():
            if guard.relation == "==":
                others.append(guard)
                continue
            expression = guard.expression
            if not guard.outcome:  # of whole numbers: not p < 0 is -p - 1 < 0
                expression = poly.add(poly.constant(-1), expression, -1)
            terms = {m: c for m, c in expression.items() if m}
            content = math.gcd(*terms.values())
            key = poly.key_of({m: c // content for m, c in terms.items()})
            offset = expression.get(poly.ONE, 0)
            found = tightest.get(key)
            if found is None or offset * found[1] > found[0] * content:
                tightest[key] = offset, content, guard
        return [guard for *_, guard in tightest.values()] + others

    def close(self) -> None:
        """No guard is added from now on."""
        self._is_open = False
        if self._restored == len(self.atoms):
            self._checked = len(self._computed)

    @property
    def is_open(self) -> bool:
        """Whether decisions may still become guards."""
        return self._is_open

    def _known(self, expression: Polynomial, relation: str) -> bool | None:
        """The answer, where it is the same for all shapes admitted."""
        value = poly.as_constant(expression)
        if value is not None:
            return value == 0 if relation == "==" else value < 0
        known = self._known_by_interval(expression, relation)
        if known is not None:
            return known
        # a factor that is never below 1 has no say in the sign
        shared = tuple(number for number in poly.common_factor(expression) if self._bounds[number][0] >= 1)
        if shared:
            reduced = poly.divide_exactly(expression, {shared: 1})
            assert reduced is not None
            return self._known(reduced, relation)
        return None

    def _known_by_interval(self, expression: Polynomial, relation: str) -> bool | None:
        low, high = self.interval(expression)
        if relation == "<":
            return True if high < 0 else False if low >= 0 else None
        offset = expression.get(poly.ONE, 0)
        if low > 0 or high < 0 or offset % math.gcd(*(c for m, c in expression.items() if m)):
            return False
        return True if low == high == 0 else None

    def _narrow(self, guard: Guard) -> None:
        """Let what a guard says of a single atom count as a bound of it."""
        number = self._only_atom(guard.expression)
        if number is None:
            return
        slope, offset = guard.expression[(number,)], guard.expression.get(poly.ONE, 0)
        low, high = self._bounds[number]
        if guard.relation == "==":
            root, rest = divmod(-offset, slope)
            if guard.outcome:
                low = high = root
            elif rest == 0:
                low, high = low + (low == root), high - (high == root)
        elif guard.outcome and slope > 0:
            high = min(high, (-offset - 1) // slope)
        elif guard.outcome:
            low = max(low, offset // -slope + 1)
        elif slope > 0:
            low = max(low, -(offset // slope))
        else:
            high = min(high, offset // -slope)
        self._bounds[number] = low, high
        for other in range(max(number + 1, self.symbols), len(self.atoms)):
            operation, left, right = self.atoms[other][2:]
            assert operation is not None
            found = _operation_bounds(operation, self.interval(left), self.interval(right))
            self._bounds[other] = _both(self._bounds[other], found)

    # --- telling --------------------------------------------------------------------------------------------------

    def text(self, expression: Polynomial) -> str:
        """As people write it."""
        terms: list[str] = []
        for monomial, coefficient in sorted(expression.items(), key=lambda item: (-len(item[0]), item[0])):
            factors = [self._atom_text(number) for number in monomial]
            if abs(coefficient) != 1 or not factors:
                factors.insert(0, str(abs(coefficient)))
            sign = ("-" if coefficient < 0 else "") if not terms else (" - " if coefficient < 0 else " + ")
            terms.append(sign + "*".join(factors))
        return "".join(terms) or "0"

    def _atom_text(self, number: int) -> str:
        atom = self.atoms[number]
        if atom.operation is None:
            return atom.name
        left, right = self.text(atom.left), self.text(atom.right)
        if atom.operation == "//":
            return f"({left} // {right})" if len(atom.left) == 1 else f"(({left}) // {right})"
        return f"{atom.operation}({left}, {right})"

    def guard_text(self, guard: Guard) -> str:
        """``n >= 4``, with positive terms on both sides."""
        left = {m: c for m, c in guard.expression.items() if c > 0}
        right = {m: -c for m, c in guard.expression.items() if c < 0}
        sign = {("==", True): "==", ("==", False): "!=", ("<", True): "<", ("<", False): ">="}
        relation = sign[guard.relation, guard.outcome]
        if not any(left) and any(right):  # a number alone goes to the right
            left, right = right, left
            relation = {"<": ">", ">=": "<="}.get(relation, relation)
        return f"{self.text(left)} {relation} {self.text(right)}"

    def note_computed(self, expression: Polynomial) -> None:
        """A program is going to compute ``expression``."""
        self._computed.append(expression)

    def largest_symbol(self) -> int:
        """Up to which value of all symbols nothing that programs compute leaves 64 bits; a power of two."""
        if self._restored and self._restored == len(self.atoms):  # what is computed until it is closed was before, too
            needed = self._computed[self._checked :] if not self._is_open else []
        else:
            needed = [*self._computed, *(side for atom in self.atoms for side in (atom.left, atom.right))]
        for bits in range(self._largest.bit_length() - 1, 1, -1):
            limits = self._limits(1 << bits) if needed else []
            if all(max(map(abs, poly.interval(p, limits.__getitem__)), default=0) < LARGEST_VALUE for p in needed):
                return 1 << bits
        return SMALLEST_SIZE

    def _limits(self, largest: int) -> list[Interval]:
        limits: list[Interval] = []
        for number, atom in enumerate(self.atoms):
            if atom.operation is None:
                low, high = self._bounds[number]
                limits.append((max(low, -largest), min(high, largest)))
            else:
                left, right = (poly.interval(side, limits.__getitem__) for side in (atom.left, atom.right))
                limits.append(_both(_operation_bounds(atom.operation, left, right), self._bounds[number]))
        return limits


def _both(first: Interval, second: Interval) -> Interval:
    return max(first[0], second[0]), min(first[1], second[1])


def _normal(expression: Polynomial, relation: str) -> Polynomial:
    """What is asked instead of ``expression``: one form for questions that are the same."""
    normal = poly.without_content(expression)
    return poly.scale(normal, -1) if relation == "==" and normal[max(normal)] < 0 else normal


def _operation_bounds(operation: Operation, left: Interval, right: Interval) -> Interval:
    if operation == "min":
        return min(left[0], right[0]), min(left[1], right[1])
    if operation == "max":
        return max(left[0], right[0]), max(left[1], right[1])
    if right[0] <= 0:
        return -math.inf, math.inf
    corners = [_floor_quotient(a, b) for a in left for b in right]
    return min(corners), max(corners)


def _floor_quotient(a: float, b: float) -> float:
    """``a // b`` for a divisor above 0, infinities included."""
    if math.isinf(a):
        return a
    if math.isinf(b):
        return 0 if a >= 0 else -1
    return a // b
