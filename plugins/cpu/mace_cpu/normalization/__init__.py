"""Normalization of rows, channels, groups and batches; Softmax."""
