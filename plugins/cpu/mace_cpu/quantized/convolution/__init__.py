"""Convolutions of bytes with known weights, on the CHANNELS_LAST layout."""
