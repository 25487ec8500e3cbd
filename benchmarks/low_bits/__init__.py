"""Products with weights of few bits, beside onnxruntime and the memory's read bandwidth."""
