"""A convolution and what reads its result in windows, computed a few rows at a time."""
