"""MatMul and Gemm."""
