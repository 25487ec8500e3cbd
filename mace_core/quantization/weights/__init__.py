"""Rounding of constant weights: to the nearest step, or so that a layer's result changes least on calibration data.

All here sees weights as a matrix (results, inputs); `gram` turns the inputs of products and convolutions into what the
methods need to know of the data.
"""
