"""Which device runs what, decided by cost: the problem as numbers, ways to solve it, and what a solution will cost."""
