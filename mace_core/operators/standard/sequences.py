"""Sequences of tensors: their attributes; the run computes them (`mace_core.scheduler.host.sequences`)."""

from __future__ import annotations

from mace_core.operators.attributes import attribute_rules
from mace_core.operators.attributes.ranks import axis_of_data
from mace_core.operators.registry import rank_check

attribute_rules("SequenceInsert", rules={})

rank_check("SplitToSequence")(axis_of_data("axis"))
