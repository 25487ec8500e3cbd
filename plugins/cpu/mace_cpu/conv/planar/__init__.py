"""Convolutions whose lanes are pixels: few channels."""
