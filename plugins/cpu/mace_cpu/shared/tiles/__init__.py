"""Register tiles, which convolutions and matrix products share."""
