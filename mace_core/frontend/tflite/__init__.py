"""TensorFlow Lite (LiteRT) models: read with the published schema, given ONNX semantics."""

from mace_core.frontend.tflite.frontend import TfliteFrontend

__all__ = ["TfliteFrontend"]
