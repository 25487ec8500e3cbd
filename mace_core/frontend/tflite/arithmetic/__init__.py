"""The integer arithmetic of LiteRT's kernels, on arrays: what tables of functions are made with."""
