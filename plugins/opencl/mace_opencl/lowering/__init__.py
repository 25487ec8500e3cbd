"""From a view to a program of launches: which nodes are taken (`why_not`) and what becomes of them (`lower`)."""

from mace_opencl.lowering.lower import lower, why_not

__all__ = ["lower", "why_not"]
