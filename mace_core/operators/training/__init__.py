"""Operators of a training step; published under ``mace.operators``."""

DOMAIN = "ai.onnx.preview.training"
