"""Which function says what an operator of ai.onnx.ml is made of."""

from __future__ import annotations

from mace_core.scheduler.rewriting import Bodies

BODIES = Bodies("ai.onnx.ml")
body = BODIES.register
