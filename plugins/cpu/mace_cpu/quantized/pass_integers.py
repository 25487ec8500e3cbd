"""What stands between DequantizeLinear and QuantizeLinear becomes operators of quantized numbers.

Each QuantizeLinear asks for the quantized form of the float it reads: by operators that compute it from other quantized
numbers (`rewriting.rules`), by a table if it is a function of one of them (`rewriting.tables`), or by moving numbers
(`rewriting.moves`).  What has no such form stays as it is, with a reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mace_core.graph import GraphView, Node, Value
from mace_core.tensor import DType
from mace_cpu.quantized.integer_form import Encoding, Quantized, encoding_of
from mace_cpu.quantized.rewriting.bounds import BOUNDING, FREE, Bounds, both, bounds_of
from mace_cpu.quantized.rewriting.floats import follows_product, with_products
from mace_cpu.quantized.rewriting.graph import Rewriting, Rewritten
from mace_cpu.quantized.rewriting.moves import move_down, move_up, sources_of
from mace_cpu.quantized.rewriting.reasons import reasons
from mace_cpu.quantized.rewriting.results import Wanted
from mace_cpu.quantized.rewriting.rules import EXPENSIVE, RULES
from mace_cpu.quantized.rewriting.tables import Tables
from mace_cpu.shared.parts.facts import Settings
from mace_cpu.shared.registry import Notes, before_lowering

Found = Value | str
"""A quantized form, or the reason why there is none."""


@before_lowering(turn=1)
def compute_in_integers(view: GraphView, settings: Settings, notes: Notes) -> GraphView:
    """``view`` with operators of quantized numbers where it has operators of floats between quantization nodes.

    It comes before weights are dequantized for those that stay.
    """
    if not settings.integers or not any(_is(node, "QuantizeLinear") for node in view.nodes):
        return view
    found = _Pass(view)
    found.tables.fill(settings)
    found.rewriting.nodes = with_products(found.rewriting, found.rewriting.needed())
    nodes = found.rewriting.needed()
    notes.update(reasons(found.rewriting, nodes))
    return Rewritten(view, nodes)


def _is(node: Node, op_type: str) -> bool:
    return node.op_type == op_type and not node.domain


class _Pass:
    def __init__(self, view: GraphView) -> None:
        self.rewriting = Rewriting(view)
        self.tables = Tables(self.rewriting)
        self._made: dict[tuple[Value, Encoding, Bounds], Value] = {}
        for node in view.nodes:
            self._visit(node)

    def _visit(self, node: Node) -> None:
        rewriting = self.rewriting
        if _is(node, "DequantizeLinear"):
            self._see_dequantize(node)
        elif _is(node, "QuantizeLinear"):
            if not self._quantize(node):
                rewriting.keep(node)
            return
        elif move_down(rewriting, node):
            pass
        else:
            rewriting.keep(node)
            self.tables.see(node)
            return
        for value in node.outputs:
            if value is not None and value in rewriting.quantized:
                self.tables.see_dequantized(value)

    def _see_dequantize(self, node: Node) -> None:
        rewriting = self.rewriting
        rewriting.keep(node)
        encoding = encoding_of(rewriting.view, node)
        numbers, real = rewriting.current(node.input(0)), node.output(0)
        scale = node.input(1)
        if encoding is None or numbers is None or scale is None or rewriting.dtype(real) is not DType.FLOAT32:
            return
        assert real is not None
        rewriting.quantized[real] = Quantized(numbers, encoding, scale, rewriting.zero_of(node, encoding))

    def _quantize(self, node: Node) -> bool:
        """Make the result of a QuantizeLinear otherwise; whether that can be."""
        rewriting = self.rewriting
        encoding, real, result = encoding_of(rewriting.view, node), node.input(0), node.output(0)
        scale = node.input(1)
        if encoding is None or real is None or result is None or scale is None:
            return False
        if encoding.axis is not None or not encoding.is_sound or rewriting.dtype(real) is not DType.FLOAT32:
            return False
        if not rewriting.is_concrete(real):
            return False
        wanted = Wanted(real, encoding, scale, rewriting.zero_of(node, encoding), into=result, behind=(node,))
        found = self._form(wanted)
        if isinstance(found, str):
            producer = rewriting.producers.get(real)
            if producer is not None:
                rewriting.refused.setdefault(producer, found)
            return False
        if found is not result:
            rewriting.share(result, found, node)
        return True

    # --- forms ----------------------------------------------------------------------------------------------------

    def _form(self, wanted: Wanted) -> Found:
        """The quantized form of a float."""
        key = wanted.real, wanted.encoding, wanted.bounds
        if key in self._made:
            return self._made[key]
        known = self.rewriting.quantized.get(wanted.real)
        if known is not None and known.encoding == wanted.encoding and wanted.bounds == FREE:
            return known.value
        found = self._computed(wanted)
        if isinstance(found, Value):
            self._made[key] = found
        return found

    def _computed(self, wanted: Wanted) -> Found:
        if self.tables.root(wanted.real) is None:
            return self._made_anew(wanted)
        table = self._looked_up(wanted)
        if not isinstance(table, str):
            return table
        producer = self.rewriting.producers.get(wanted.real)
        if producer is not None:
            self._refuse(producer, table)
        other = self._made_anew(wanted)
        return table if isinstance(other, str) else other

    def _made_anew(self, wanted: Wanted) -> Found:
        """The quantized form of a float by other means than a table."""
        rewriting, real = self.rewriting, wanted.real
        node = rewriting.producers.get(real)
        if node is None or real in rewriting.quantized:
            return f"'{real.name}' is not computed from quantized numbers"
        if node.domain:
            return f"{node.qualified_op} has no form in integers"
        if node.op_type in BOUNDING:
            return self._refuse(node, self._bounded(node, wanted))
        if node.op_type in EXPENSIVE and not self._is_only_quantized(real):
            return self._refuse(node, "its result is read in float, too")
        if sources_of(node):
            return self._refuse(node, self._moved(node, wanted))
        rule = RULES.get(node.op_type)
        if rule is not None:
            return self._refuse(node, rule(rewriting, node, wanted))
        return self._refuse(node, f"{node.op_type} has no form in integers")

    def _refuse(self, node: Node, found: Found) -> Found:
        if isinstance(found, str):
            self.rewriting.refused.setdefault(node, found)
        return found

    def _looked_up(self, wanted: Wanted) -> Found:
        result = wanted.result(self.rewriting)
        numbers = Quantized(result, wanted.encoding, wanted.scale, wanted.zero)
        producer = self.rewriting.producers.get(wanted.real)
        origin: Sequence[Node] = wanted.behind if producer is None else (producer, *wanted.behind)
        return self.tables.request(wanted.real, numbers, wanted.bounds, origin) or result

    def _bounded(self, node: Node, wanted: Wanted) -> Found:
        inner = bounds_of(self.rewriting, node, wanted.encoding)
        real = node.input(0)
        if isinstance(inner, str):
            return inner
        assert real is not None
        return self._form(replace(wanted, real=real, bounds=both(inner, wanted.bounds), behind=(node, *wanted.behind)))

    def _moved(self, node: Node, wanted: Wanted) -> Found:
        def quantize(real: Value) -> Found:
            own = replace(wanted, real=real, into=None, behind=())
            found = self._form(own)
            return self._rounded(own) or found if isinstance(found, str) else found

        return move_up(self.rewriting, node, wanted.real, wanted.encoding, quantize, wanted.into)

    def _rounded(self, wanted: Wanted) -> Value | None:
        """A float behind a product, rounded before it is moved: the product does it while it has it in registers."""
        if wanted.bounds != FREE or not follows_product(self.rewriting, wanted.real):
            return None
        result = wanted.result(self.rewriting)
        inputs = [wanted.real, wanted.scale, wanted.zero]
        if self.rewriting.add("QuantizeLinear", inputs, [result], [self.rewriting.producers[wanted.real]]) is not None:
            return None
        self._made[wanted.real, wanted.encoding, wanted.bounds] = result
        return result

    def _is_only_quantized(self, real: Value) -> bool:
        """Whether all that becomes of ``real`` is that it is bounded, moved and quantized."""
        rewriting = self.rewriting
        pending = [real]
        while pending:
            value = pending.pop()
            if value in rewriting.kept:
                return False
            for user in rewriting.view.users(value):
                if _is(user, "QuantizeLinear"):
                    continue
                if user.domain or (user.op_type not in BOUNDING and value not in sources_of(user)):
                    return False
                pending += [result for result in user.outputs if result is not None]
        return True
