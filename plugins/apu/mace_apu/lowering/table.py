"""All translations by operator of the default domain; the modules of this package fill it when it is first used."""

from __future__ import annotations

from mace_apu.lowering.context import Lower
from mace_core.provider import Lowerings

LOWERINGS: Lowerings[Lower] = Lowerings("apu", "mace_apu.lowering")
