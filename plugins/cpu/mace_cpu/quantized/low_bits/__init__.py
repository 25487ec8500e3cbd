"""Products with constant weights of few bits, which stay packed and are unpacked in registers."""
