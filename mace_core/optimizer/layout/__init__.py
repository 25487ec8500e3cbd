"""Transposes folded away: what moves elements without need is left out.

Most models that come from frameworks with channels last have a Transpose before and behind every convolution.  Nothing
between two convolutions cares for the order of axes, so that all of it can be computed in the order that the
convolutions want.  See docs/decisions/layout.md.
"""

from mace_core.optimizer.layout.fold import FoldTransposes

__all__ = ["FoldTransposes"]
