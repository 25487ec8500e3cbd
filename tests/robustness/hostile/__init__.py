"""A corpus of hostile model files, made by seeded scripts, and what is asked of whoever loads them.

``python -m hostile --help`` (from the folder above) makes any number of them by hand.  No file is kept in
the repository.
"""
