"""Recurrent layers: directions, initial states, biases, lengths of sequences."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from mace_core.testing.cases import Case
from mace_core.testing.forms.building import Array, form, forms_of, rows, values

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


@forms_of(*GATES)
def layers(op_type: str) -> Iterator[Case]:
    hidden, size, steps = 5, 3, 4
    choices: dict[str, Any] = {
        "direction": (None, "reverse", "bidirectional"),
        "bias": (True, False),
        "initial": (False, True),
        "lengths": (False, True),
        "batch": (2, 1),
        "peepholes": (False, True) if op_type == "LSTM" else (False,),
        "linear_before_reset": (None, 1) if op_type == "GRU" else (None,),
    }
    for row, different in rows(**choices):
        directions, gates, batch = 2 if row["direction"] == "bidirectional" else 1, GATES[op_type], row["batch"]
        small: dict[str, Any] = {"low": -0.5, "high": 0.5}
        inputs: list[Array | None] = [
            values((steps, batch, size), seed=150),
            values((directions, gates * hidden, size), seed=151, **small),
            values((directions, gates * hidden, hidden), seed=152, **small),
            values((directions, 2 * gates * hidden), seed=153, **small) if row["bias"] else None,
            np.array([4, 2][:batch], np.int32) if row["lengths"] else None,
            values((directions, batch, hidden), seed=154) if row["initial"] else None,
        ]
        if op_type == "LSTM":
            inputs.append(values((directions, batch, hidden), seed=155) if row["initial"] else None)
            inputs.append(values((directions, 3 * hidden), seed=156, **small) if row["peepholes"] else None)
        while inputs[-1] is None:
            inputs.pop()
        attributes = {
            "hidden_size": hidden,
            "direction": row["direction"],
            "linear_before_reset": row["linear_before_reset"],
        }
        outputs = 3 if op_type == "LSTM" else 2
        yield form(op_type, inputs, different, constants=[1, 2, 3, 4, 7], attributes=attributes, outputs=outputs)
