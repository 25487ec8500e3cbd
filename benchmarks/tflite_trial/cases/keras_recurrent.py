"""Recurrent layers of Keras: unrolled, fused by the converter, and as loops."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from benchmarks.tflite_trial.case import WEIGHTS, Built, case, keras, layer

K = tf.keras.layers
STEPS = (6, 5)

for kind in ("LSTM", "GRU", "SimpleRNN"):
    cell: Any = getattr(K, kind)
    layer(f"recurrent/{kind}", lambda c=cell: c(7), STEPS, forms=WEIGHTS)
    layer(f"recurrent/{kind}_sequences", lambda c=cell: c(7, return_sequences=True), STEPS, forms=WEIGHTS)
    layer(f"recurrent/{kind}_unrolled", lambda c=cell: c(7, unroll=True), STEPS, forms=WEIGHTS)
    layer(f"recurrent/{kind}_backwards", lambda c=cell: c(7, go_backwards=True, return_sequences=True), STEPS)
    layer(f"recurrent/{kind}_free", lambda c=cell: c(7, return_sequences=True), (None, 5), batches=(2, 5))
    layer(f"recurrent/{kind}_both", lambda c=cell: K.Bidirectional(c(4, return_sequences=True)), STEPS, forms=WEIGHTS)
    layer(f"recurrent/{kind}_both_last", lambda c=cell: K.Bidirectional(c(4), merge_mode="sum"), STEPS)
    layer(f"recurrent/{kind}_stacked", lambda c=cell: tf.keras.Sequential([c(5, return_sequences=True), c(3)]), STEPS)
    layer(f"recurrent/{kind}_masked", lambda c=cell: tf.keras.Sequential([K.Masking(0.0), c(5)]), STEPS)
    layer(f"recurrent/{kind}_state", lambda c=cell: c(7, return_state=True), STEPS)

    def fixed(c: Any = cell, name: str = f"recurrent/{kind}_fixed") -> Built:
        """A batch of one, as the converter wants it for its own LSTM operator."""
        tf.keras.utils.set_random_seed(5)
        return keras(name, c(7, return_sequences=True), ((1, *STEPS), tf.float32))

    case(f"recurrent/{kind}_fixed", WEIGHTS)(fixed)

    def stateful(c: Any = cell, name: str = f"recurrent/{kind}_stateful") -> Built:
        """The state is a variable."""
        tf.keras.utils.set_random_seed(5)
        return keras(name, c(4, stateful=True), ((1, *STEPS), tf.float32), is_stateful=True)

    case(f"recurrent/{kind}_stateful")(stateful)

layer("recurrent/GRU_old", lambda: K.GRU(7, reset_after=False), STEPS)
layer("recurrent/LSTM_relu", lambda: K.LSTM(7, activation="relu", recurrent_activation="hard_sigmoid"), STEPS)
layer("recurrent/ConvLSTM2D", lambda: K.ConvLSTM2D(4, 3, padding="same"), (3, 6, 7, 2))
layer("recurrent/ConvLSTM1D", lambda: K.ConvLSTM1D(4, 3, padding="same"), (3, 6, 2))
layer("recurrent/cells", lambda: K.RNN([K.LSTMCell(5), K.GRUCell(3)]), STEPS)
layer("recurrent/time_distributed", lambda: K.TimeDistributed(K.Conv2D(4, 3)), (3, 6, 7, 2), forms=WEIGHTS)
