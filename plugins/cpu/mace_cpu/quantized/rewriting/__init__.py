"""From graphs that quantize and dequantize around operators of floats to operators of quantized numbers."""
