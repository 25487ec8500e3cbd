"""Execution provider for the (imaginary) ACME accelerator, run on a simulator with memory and a queue of its own.

It stands for what a silicon vendor would publish: it imports nothing but the public names of ``mace_core``.
"""

__version__ = "1.2.0"
