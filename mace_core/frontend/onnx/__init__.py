"""ONNX models: import (``OnnxFrontend``) and export (``to_onnx`` and ``save_onnx`` in ``.export``).

The onnx library is imported only when a model is read or written.
"""

from __future__ import annotations

from mace_core.frontend.onnx.frontend import OnnxFrontend

__all__ = ["OnnxFrontend"]
