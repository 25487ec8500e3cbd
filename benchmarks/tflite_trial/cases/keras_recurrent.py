"""Recurrent layers of Keras: unrolled, fused by the converter, and as loops."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from benchmarks.tflite_trial.case import WEIGHTS, layer

K = tf.keras.layers
STEPS = (6, 5)

for kind in ("LSTM", "GRU", "SimpleRNN"):  # the converter wants to know the batch
    cell: Any = getattr(K, kind)
    few = ("float32", "float16", "dynamic")
    layer(f"recurrent/{kind}", lambda c=cell: c(7), STEPS, forms=WEIGHTS, batch=1)
    layer(f"recurrent/{kind}_free_batch", lambda c=cell: c(7), STEPS)
    layer(f"recurrent/{kind}_sequences", lambda c=cell: c(7, return_sequences=True), STEPS, forms=few, batch=3)
    layer(f"recurrent/{kind}_unrolled", lambda c=cell: c(7, unroll=True), STEPS, forms=(*few, "int8"))
    back = {"go_backwards": True, "return_sequences": True}
    layer(f"recurrent/{kind}_backwards", lambda c=cell, b=back: c(7, **b), STEPS, batch=1)
    layer(f"recurrent/{kind}_free", lambda c=cell: c(7, return_sequences=True), (None, 5), batches=(2, 5), batch=1)
    layer(
        f"recurrent/{kind}_both", lambda c=cell: K.Bidirectional(c(4, return_sequences=True)), STEPS, forms=few, batch=1
    )
    layer(f"recurrent/{kind}_both_last", lambda c=cell: K.Bidirectional(c(4), merge_mode="sum"), STEPS, batch=1)
    layer(
        f"recurrent/{kind}_stacked",
        lambda c=cell: tf.keras.Sequential([c(5, return_sequences=True), c(3)]),
        STEPS,
        batch=1,
    )
    layer(f"recurrent/{kind}_masked", lambda c=cell: tf.keras.Sequential([K.Masking(0.0), c(5)]), STEPS, batch=1)
    layer(f"recurrent/{kind}_state", lambda c=cell: c(7, return_state=True), STEPS, batch=1)
    layer(f"recurrent/{kind}_stateful", lambda c=cell: c(4, stateful=True), STEPS, batch=1, is_stateful=True)

layer("recurrent/GRU_old", lambda: K.GRU(7, reset_after=False), STEPS, batch=1)
layer("recurrent/LSTM_relu", lambda: K.LSTM(7, activation="relu", recurrent_activation="hard_sigmoid"), STEPS, batch=1)
layer("recurrent/ConvLSTM2D", lambda: K.ConvLSTM2D(4, 3, padding="same"), (3, 6, 7, 2), batch=1)
layer("recurrent/ConvLSTM1D", lambda: K.ConvLSTM1D(4, 3, padding="same"), (3, 6, 2), batch=1)
layer("recurrent/cells", lambda: K.RNN([K.LSTMCell(5), K.GRUCell(3)]), STEPS, batch=1)
layer("recurrent/time_distributed", lambda: K.TimeDistributed(K.Conv2D(4, 3)), (3, 6, 7, 2), forms=WEIGHTS)
