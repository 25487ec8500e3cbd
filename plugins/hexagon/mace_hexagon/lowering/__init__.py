"""Translation of ONNX operators to QNN's."""
