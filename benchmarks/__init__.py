"""Timings of MACE beside other engines."""
