"""MaxPool, AveragePool, LpPool and the global poolings."""
