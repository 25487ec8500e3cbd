"""All translations by operator of the default domain; the modules of this package fill it when it is first used."""

from __future__ import annotations

from mace_core.provider import Lowerings
from mace_hexagon.lowering.context import Lower

LOWERINGS: Lowerings[Lower] = Lowerings("hexagon", "mace_hexagon.lowering")
