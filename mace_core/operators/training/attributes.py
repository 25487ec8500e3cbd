"""Attributes of training operators are named like those of the standard."""

from __future__ import annotations

from mace_core.operators.attributes import declare_attributes
from mace_core.operators.training import DOMAIN

declare_attributes(DOMAIN, {}, base="")
