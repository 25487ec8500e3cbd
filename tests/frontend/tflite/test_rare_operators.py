"""Recurrent layers, segments, suppression and StableHLO, in small models, against LiteRT."""

from __future__ import annotations

import numpy as np
import pytest
from lite_models import LiteGraph, LiteModel, assert_agree
from test_operators import floats

import mace_core as mace


def variable(g: LiteGraph, name: str, shape: tuple[int, ...]) -> int:
    number = g.tensor(name, shape)
    g.table.tensors[number].isVariable = True
    return number


@pytest.mark.parametrize("time_major", [False, True])
def test_an_lstm_goes_on_where_it_was(time_major: bool) -> None:
    """Batches of 2, 4 steps, 3 features, 5 units; its two states are kept between runs."""
    model = LiteModel()
    g = model.graph()
    shape = (4, 2, 3) if time_major else (2, 4, 3)
    x = g.input("x", shape)
    into = [g.constant(f"w{at}", floats(5, 3) * (at + 1) / 4) for at in range(4)]
    back = [g.constant(f"r{at}", floats(5, 5) * (at + 1) / 5) for at in range(4)]
    biases = [g.constant(f"b{at}", floats(5) / (at + 1)) for at in range(4)]
    states = [variable(g, name, (2, 5)) for name in ("h", "c")]
    y = g.output("y", (4, 2, 5) if time_major else (2, 4, 5))
    g.op(
        "UNIDIRECTIONAL_SEQUENCE_LSTM",
        [x, *into, *back, -1, -1, -1, *biases, -1, -1, *states, -1, -1, -1, -1],
        [y],
        "UnidirectionalSequenceLSTMOptions",
        fusedActivationFunction=4,
        timeMajor=time_major,
    )
    assert_agree(model.bytes(), *({"x": floats(*shape) * scale} for scale in (1, 0.5, -1)))


def test_recurrent_layers_go_on_where_they_were() -> None:
    model = LiteModel()
    g = model.graph()
    x, row = g.input("x", (2, 4, 3)), g.input("row", (2, 3))
    w, r, b = g.constant("w", floats(5, 3)), g.constant("r", floats(5, 5) / 5), g.constant("b", floats(5))
    inputs = [x, w, r, b, variable(g, "h", (2, 5))]
    g.op(
        "UNIDIRECTIONAL_SEQUENCE_RNN",
        inputs,
        [g.output("y", (2, 4, 5))],
        "SequenceRNNOptions",
        fusedActivationFunction=4,
    )
    inputs = [row, w, r, b, variable(g, "h2", (2, 5))]
    g.op("RNN", inputs, [g.output("z", (2, 5))], "RNNOptions", fusedActivationFunction=1)
    time = g.constant("time", floats(8, 6))
    feature, offset = g.constant("feature", floats(8, 3)), g.constant("offset", floats(4))
    inputs = [row, feature, time, offset, variable(g, "memory", (2, 48))]
    g.op("SVDF", inputs, [g.output("v", (2, 4))], "SVDFOptions", rank=2, fusedActivationFunction=0)
    assert_agree(model.bytes(), *({"x": floats(2, 4, 3) * s, "row": floats(2, 3) * s} for s in (1, 0.5, -1)))


def test_segments_buckets_and_diagonals() -> None:
    model = LiteModel()
    g = model.graph()
    x = g.input("x", (5, 3))
    ids, count = g.constant("ids", np.int32([1, 0, 1, 3, 3])), g.constant("count", np.int32(4))
    for kind in ("SUM", "PROD", "MAX", "MIN"):
        g.op(f"UNSORTED_SEGMENT_{kind}", [x, ids, count], [g.output(kind, (4, 3))])
    rising = g.constant("rising", np.int32([0, 0, 1, 2, 2]))
    g.op("SEGMENT_SUM", [x, rising], [g.output("segments", (3, 3))], "SegmentSumOptions")
    g.op("BUCKETIZE", [x], [g.output("buckets", (5, 3), "int32")], "BucketizeOptions", boundaries=[-1.0, 0.0, 2.0])
    row = g.constant("row", floats(2, 3))
    g.op("MATRIX_DIAG", [row], [g.output("diagonal", (2, 3, 3))], "MatrixDiagOptions")
    g.op("MATRIX_SET_DIAG", [x, g.constant("d", floats(3))], [g.output("set", (5, 3))], "MatrixSetDiagOptions")
    assert_agree(model.bytes(), {"x": floats(5, 3)})


def test_values_that_come_once_and_boxes_that_are_kept() -> None:
    model = LiteModel()
    g = model.graph()
    x = g.input("x", (7,), "int32")
    outputs = [g.output("values", (4,), "int32", signature=(-1,)), g.output("places", (7,), "int32")]
    g.op("UNIQUE", [x], outputs, "UniqueOptions", idxOutType=2)
    boxes = np.float32([[0, 0, 1, 1], [0, 0.1, 1, 1.1], [0, -0.1, 1, 0.9], [0, 10, 1, 11], [0, 10.1, 1, 11.1]])
    inputs = [g.constant("boxes", boxes), g.constant("scores", np.float32([0.9, 0.75, 0.6, 0.95, 0.5]))]
    inputs += [g.constant("most", np.int32(4)), g.constant("iou", np.float32(0.5)), g.constant("low", np.float32(0))]
    kept, number = g.output("kept", (4,), "int32"), g.output("number", (), "int32")
    g.op("NON_MAX_SUPPRESSION_V4", inputs, [kept, number], "NonMaxSuppressionV4Options")
    outputs = [g.output("kept5", (4,), "int32"), g.output("scores5", (4,)), g.output("number5", (), "int32")]
    g.op("NON_MAX_SUPPRESSION_V5", [*inputs, g.constant("sigma", np.float32(0))], outputs, "NonMaxSuppressionV5Options")
    assert_agree(model.bytes(), {"x": np.int32([3, 1, 3, 7, 1, 1, 2])})


def test_operators_of_stablehlo() -> None:
    """Those that LiteRT has kernels for."""
    model = LiteModel()
    g = model.graph()
    a, b = g.input("a", (2, 3)), g.input("b", (2, 3))
    for kind in ("ADD", "MULTIPLY", "MAXIMUM", "MINIMUM"):
        g.op(f"STABLEHLO_{kind}", [a, b], [g.output(kind, (2, 3))])
    sizes = {"edgePaddingLow": [1, -1], "edgePaddingHigh": [0, 2], "interiorPadding": [0, 0]}
    fill = g.constant("fill", np.float32(9))
    g.op("STABLEHLO_PAD", [a, fill], [g.output("padded", (3, 4))], "StablehloPadOptions", **sizes)
    assert_agree(model.bytes(), {"a": floats(2, 3), "b": floats(2, 3)[::-1].copy()})


def test_further_operators_of_stablehlo_mean_what_numpy_computes() -> None:
    """LiteRT has no kernels for these."""
    model = LiteModel()
    g = model.graph()
    a, b = g.input("a", (2, 3)), g.input("b", (3, 4))
    g.op("STABLEHLO_SUBTRACT", [a, a], [g.output("zero", (2, 3))])
    lists = {"lhsBatchingDimensions": [], "rhsBatchingDimensions": []}
    lists |= {"lhsContractingDimensions": [1], "rhsContractingDimensions": [0]}
    g.op("STABLEHLO_DOT_GENERAL", [a, b], [g.output("product", (2, 4))], "StablehloDotGeneralOptions", **lists)
    wide = g.output("wide", (2, 5, 3))
    g.op("STABLEHLO_BROADCAST_IN_DIM", [a], [wide], "StablehloBroadcastInDimOptions", broadcastDimensions=[0, 2])
    g.op("STABLEHLO_COMPARE", [a, a], [g.output("same", (2, 3), "bool")], "StablehloCompareOptions")
    g.op("STABLEHLO_IOTA", [], [g.output("places", (2, 3), "int32")], "StablehloIotaOptions", iotaDimension=1)
    cut = {"startIndices": [0, 1], "limitIndices": [2, 3], "strides": [1, 2]}
    g.op("STABLEHLO_SLICE", [a], [g.output("cut", (2, 1))], "StablehloSliceOptions", **cut)
    g.op("STABLEHLO_TRANSPOSE", [a], [g.output("turned", (3, 2))], "StablehloTransposeOptions", permutation=[1, 0])
    x, y = floats(2, 3), floats(3, 4)
    with mace.Session(model.bytes(), devices=["cpu"], strict=True) as session:
        found = session.run({"a": x, "b": y})
    np.testing.assert_allclose(found["product"], x @ y, rtol=1e-5, atol=1e-5)
    assert np.array_equal(found["wide"], np.broadcast_to(x[:, None], (2, 5, 3)))
    assert found["same"].all()
    assert np.array_equal(found["places"], [[0, 1, 2]] * 2)
    assert np.array_equal(found["cut"], x[:, 1::2])
    assert np.array_equal(found["turned"], x.T)
    assert not found["zero"].any()


@pytest.mark.parametrize("padding", [0, 1], ids=["same", "valid"])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (2, 3), (4, 1)])
def test_transposed_convolution_whose_result_has_any_size(padding: int, kernel: int, stride: int) -> None:
    model = LiteModel()
    g = model.graph()
    shape = g.input("shape", (4,), "int32")
    x = g.input("x", (1, 5, 5, 3), signature=(-1, -1, -1, 3))
    filters = g.constant("filters", floats(4, kernel, kernel, 3))
    y = g.output("y", (1, 1, 1, 4), signature=(-1, -1, -1, 4))
    options = {"padding": padding, "strideH": stride, "strideW": stride}
    g.op("TRANSPOSE_CONV", [shape, filters, x], [y], "TransposeConvOptions", **options)
    for rows, columns, less in ((5, 4, 0), (7, 3, stride - 1)):  # sizes that a stride passes over, too
        full = [size * stride + (kernel - 1 if padding else 0) - less for size in (rows, columns)]
        feeds = {"shape": np.int32([2, *full, 4]), "x": floats(2, rows, columns, 3)}
        assert_agree(model.bytes(), feeds)


def test_bits_of_one_type_as_another() -> None:
    model = LiteModel()
    g = model.graph()
    x = g.input("x", (2, 4))
    b = g.input("b", (2, 4), "uint8")
    g.op("BITCAST", [x], [g.output("whole", (2, 4), "int32")])
    g.op("BITCAST", [x], [g.output("bytes", (2, 4, 4), "uint8")])
    g.op("BITCAST", [x], [g.output("halves", (2, 4, 2), "int16")])
    g.op("BITCAST", [b], [g.output("joined", (2,), "int32")])
    g.op("BITCAST", [b], [g.output("signed", (2, 4), "int8")])
    given = np.random.default_rng(3).integers(0, 256, (2, 4)).astype(np.uint8)
    (found,) = assert_agree(model.bytes(), {"x": floats(2, 4), "b": given})
    assert np.array_equal(found["bytes"], floats(2, 4).view(np.uint8).reshape(2, 4, 4))
    assert np.array_equal(found["joined"], given.view(np.int32).reshape(2))
