"""Importers: the bytes of a model file become a Graph.

Each format is a plugin of the entry-point group ``mace.frontends``; ONNX is the first.  Nothing here optimizes or runs.
"""

from mace_core.frontend.base import Frontend, ModelSource
from mace_core.frontend.exporters.trust import trusted_files
from mace_core.frontend.load import load_model

__all__ = ["Frontend", "ModelSource", "load_model", "trusted_files"]
