"""Attributes of preview operators are those of the standard."""

from __future__ import annotations

from mace_core.operators.attributes import declare_attributes
from mace_core.operators.preview import DOMAIN

declare_attributes(DOMAIN, {}, base="")
