"""Device-independent simplification of a graph: canonical forms, folding, dead code.

Fusion, layout and kernels are not here; they belong to a provider's ``compile``.
"""

from mace_core.optimizer.infra import GraphPass, PassReport
from mace_core.optimizer.optimize import default_passes, optimize

__all__ = ["GraphPass", "PassReport", "default_passes", "optimize"]
