"""Small files whose offsets stand for much: the same text, list or table, again and again."""

from __future__ import annotations

from collections.abc import Callable

import flatbuffers
import pytest
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers

from mace_core.errors import ModelError
from mace_core.frontend.load import load_model
from mace_core.frontend.tflite.custom import flexible_options
from mace_core.frontend.tflite.flat_tables import MOST_ENTRIES, MOST_TEXT, FlatTable
from mace_core.frontend.tflite.metadata import MAX_FILES, MAX_TEXT


def vector(builder: flatbuffers.Builder, start: Callable[[flatbuffers.Builder, int], object], items: list[int]) -> int:
    start(builder, len(items))
    for item in reversed(items):
        builder.PrependUOffsetTRelative(item)
    return int(builder.EndVector())


def model(names: int = 0, entries: int = 0, size: int = 1 << 20) -> bytes:
    """A model with so many tensors of one long name, and so many entries of metadata that name one long buffer."""
    b = flatbuffers.Builder(size)
    text = b.CreateString("n" * size)
    tensors = []
    for _ in range(max(names, 1)):
        schema.TensorStart(b)
        schema.TensorAddName(b, text)
        tensors.append(schema.TensorEnd(b))
    made = vector(b, schema.SubGraphStartTensorsVector, tensors)
    schema.SubGraphStart(b)
    schema.SubGraphAddTensors(b, made)
    graphs = vector(b, schema.ModelStartSubgraphsVector, [schema.SubGraphEnd(b)])
    content = b.CreateByteVector(b"t" * size)
    schema.BufferStart(b)
    schema.BufferAddData(b, content)
    buffers = vector(b, schema.ModelStartBuffersVector, [schema.BufferEnd(b)])
    keys = [b.CreateString(f"entry {number}") for number in range(entries)]
    told = []
    for key in keys:
        schema.MetadataStart(b)
        schema.MetadataAddName(b, key)
        schema.MetadataAddBuffer(b, 0)
        told.append(schema.MetadataEnd(b))
    metadata = vector(b, schema.ModelStartMetadataVector, told)
    schema.ModelStart(b)
    schema.ModelAddVersion(b, 3)
    schema.ModelAddSubgraphs(b, graphs)
    schema.ModelAddBuffers(b, buffers)
    schema.ModelAddMetadata(b, metadata)
    b.Finish(schema.ModelEnd(b), b"TFL3")
    return bytes(b.Output())


def test_a_name_that_many_tensors_share_is_counted_each_time() -> None:
    with pytest.raises(ModelError, match="repeats its names until they take many times its own size"):
        load_model(model(names=50))
    load_model(model(names=3))


def test_a_text_that_many_entries_share_is_kept_a_few_times() -> None:
    kept = load_model(model(entries=300)).metadata
    texts = [text for name, text in kept.items() if name.startswith("tflite.entry")]
    assert 0 < len(texts) <= MAX_FILES
    assert sum(map(len, texts)) <= MAX_TEXT


def test_a_list_that_many_tables_share_is_read_a_few_times() -> None:
    """Each of a thousand tables has the same list of a thousand others, which have the same long text."""
    b = flatbuffers.Builder()
    text = b.CreateString("t" * 1000)

    def table(field: int, content: int) -> int:
        b.StartObject(7)
        b.PrependUOffsetTRelativeSlot(field, content, 0)
        return int(b.EndObject())

    def tables(items: list[int]) -> int:
        return vector(b, lambda builder, count: builder.StartVector(4, count, 4), items)

    inner = tables([table(0, text) for _ in range(1000)])
    outer = tables([table(6, inner) for _ in range(1000)])
    b.Finish(table(0, outer))
    root = FlatTable.root(bytes(b.Output()))
    assert root is not None
    found = [entry.text(0) for each in root.tables(0) for entry in each.tables(6)]
    assert 1000 <= len(found) < MOST_ENTRIES
    assert 1000 <= sum(map(len, found)) <= MOST_TEXT


def test_options_of_custom_operators_are_read_one_level_deep() -> None:
    """Lists of lists that share their items double with every level: forty levels would never end."""
    b = flexbuffers.Builder()
    with b.Map():
        b.Int("size", 3)
        b.String("kind", "box")
        b.Key("scales")
        b.VectorFromElements([0.5, 2.0])
        b.Key("flag")
        b.Bool(True)
        b.Key("parts")
        b.VectorFromElements([[1], [2]])
    assert flexible_options(bytes(b.Finish())) == {"size": 3, "kind": "box", "scales": [0.5, 2.0], "flag": True}
    assert flexible_options(flexbuffers.Dumps([1, 2])) is None
    assert flexible_options(bytes(doubled(40))) == {"a": 1}


def doubled(levels: int) -> bytearray:
    """A map of a number and of a list of two lists that are the same, and so on."""
    content = bytearray([1, 1, 4])  # a list of one number: its length, the number, its type (INT, 8 bits)
    at = 1
    for _ in range(levels):
        place = len(content) + 1
        content += bytes([2, place - at, place + 1 - at, 40, 40])  # VECTOR, 8 bits
        at = place
    keys = len(content)
    content += b"a\0b\0"
    first = len(content) + 1
    content += bytes([2, first - keys, first + 1 - keys - 2])
    values = len(content) + 3
    content += bytes([len(content) - first, 1, 2, 1, values + 1 - at, 4, 40])
    content += bytes([len(content) - values, 36, 1])  # MAP, 8 bits; the root is one byte wide
    return content
