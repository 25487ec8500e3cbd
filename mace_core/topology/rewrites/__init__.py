"""The rewrites, one file for each family of operators."""
