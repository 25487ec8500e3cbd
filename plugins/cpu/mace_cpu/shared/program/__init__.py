"""A subgraph on its way to a plan."""
