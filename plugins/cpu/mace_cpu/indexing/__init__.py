"""Gather and Scatter in all forms, and Compress."""
