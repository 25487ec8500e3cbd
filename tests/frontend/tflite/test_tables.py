"""Hash tables: texts to numbers, numbers to texts, and rows by keys."""

from __future__ import annotations

import struct
from itertools import accumulate

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from lite_models import TYPES, LiteGraph, LiteModel, assert_agree

import mace_core as mace
from mace_core.errors import UnsupportedModelError
from mace_core.frontend.load import load_model

WORDS = ["cat", "dog", "größe", "cat"]  # the first of equal keys counts
NUMBERS = [7, 9, -3, 100]


def texts(g: LiteGraph, name: str, content: list[str]) -> int:
    """A constant of texts: their number, where each begins and the last one ends, their UTF-8."""
    parts = [text.encode() for text in content]
    first = 4 * (len(parts) + 2)
    places = list(accumulate((len(part) for part in parts), initial=first))
    data = struct.pack(f"<{len(places) + 1}i", len(parts), *places) + b"".join(parts)
    return g.tensor(name, (len(parts),), "string", data=np.frombuffer(data, np.uint8))


def looking_up(*, is_text: bool, is_filled: bool = True) -> bytes:
    """Words to numbers, or numbers to words, of a table that is filled before the first run; and its size."""
    model = LiteModel()
    g = model.graph()
    kinds = ("string", "int64") if is_text else ("int64", "string")

    def handle(at: LiteGraph) -> int:
        number = at.tensor("table", (1,), "resource")
        at.op("HASHTABLE", [], [number], "HashtableOptions", tableId=4, keyDtype=TYPES[kinds[0]],
              valueDtype=TYPES[kinds[1]])  # fmt: skip
        return number

    def side(at: LiteGraph, kind: str) -> int:
        return texts(at, "words", WORDS) if kind == "string" else at.constant("numbers", NUMBERS, "int64")

    x = g.input("x", (5,), kinds[0])
    if is_filled:
        g.op("CALL_ONCE", [], [], "CallOnceOptions", initSubgraphIndex=1)
        init = model.graph("init")
        init.op("HASHTABLE_IMPORT", [handle(init), side(init, kinds[0]), side(init, kinds[1])], [])
    default = g.constant("default", [-1], "int64") if is_text else texts(g, "default", ["?"])
    table = handle(g)
    g.op("HASHTABLE_FIND", [table, x, default], [g.output("y", (5,), kinds[1])])
    g.op("HASHTABLE_SIZE", [table], [g.output("n", (1,), "int64")])
    return model.bytes()


@pytest.mark.parametrize("is_text", [True, False])
def test_a_table_gives_what_litert_finds(is_text: bool) -> None:
    model = looking_up(is_text=is_text)
    words = np.array(["größe", "cat", "bird", "", "dog"], object)
    feed = words if is_text else np.array([9, 7, 8, -3, 100])
    interpreter = Interpreter(model_content=model)
    interpreter.allocate_tensors()
    fed = np.array([word.encode() for word in words]) if is_text else feed
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], fed)
    interpreter.invoke()
    y, n = (interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details())
    with mace.Session(model, devices=["cpu"]) as session:
        found = session.run({"x": feed})
    expected = y.tolist() if is_text else [text.decode() for text in y.tolist()]
    assert found["y"].tolist() == expected
    assert found["n"].tolist() == n.tolist()


def test_a_table_that_nothing_fills_is_told() -> None:
    with pytest.raises(UnsupportedModelError, match="asks a table that nothing has filled"):
        load_model(looking_up(is_text=True, is_filled=False))


def test_rows_by_keys_and_which_there_are() -> None:
    model = LiteModel()
    g = model.graph()
    wanted, keys = g.input("wanted", (4,), "int32"), g.constant("keys", [1, 3, 8], "int32")
    rows = g.input("rows", (3, 2))
    outputs = [g.output("found", (4, 2)), g.output("hits", (4,), "uint8")]
    g.op("HASHTABLE_LOOKUP", [wanted, keys, rows], outputs)
    feeds = {"wanted": np.int32([8, 2, 1, -5]), "rows": np.arange(6, dtype=np.float32).reshape(3, 2) + 1}
    (found,) = assert_agree(model.bytes(), feeds)
    assert found["hits"].tolist() == [1, 0, 1, 0]
