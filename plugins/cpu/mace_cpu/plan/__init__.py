"""Compiled subgraphs: what a plan consists of, its stored form, and a run of it.

Imports nothing that a warm start does without.
"""
