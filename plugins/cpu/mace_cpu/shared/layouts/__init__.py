"""How values lie in memory, and the steps that move them from one layout to another."""
