"""From a graph and open devices to a plan: stages, placement, partition, memory, execution plan."""
