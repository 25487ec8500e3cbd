"""Operators of ai.onnx.preview; published under ``mace.operators``."""

DOMAIN = "ai.onnx.preview"
