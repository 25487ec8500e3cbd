"""The machine and the Python that the core runs on: processors, memory, files, processes, installed packages.

Nothing here knows graphs or providers.
"""
