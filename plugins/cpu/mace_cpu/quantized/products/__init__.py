"""Products of bytes: exact sums in int32, and what becomes of them."""
