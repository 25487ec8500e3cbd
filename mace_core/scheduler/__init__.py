"""From a graph and open devices to results: partition, placement, memory plan, execution plan, executor.

Knows providers only through the contract in `mace_core.provider`; the reference provider, the last fallback, lives
here too.
"""
