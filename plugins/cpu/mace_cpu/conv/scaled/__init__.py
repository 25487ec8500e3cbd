"""Convolutions whose input channels are multiplied by a number each."""
