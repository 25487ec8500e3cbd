"""What a model takes on this machine: memory over time, throughput of several streams, the best number of threads."""

from mace_core.measurement.memory import KindUse, MemoryObserver, MemoryReport, Moment, observe_memory

__all__ = ["KindUse", "MemoryObserver", "MemoryReport", "Moment", "observe_memory"]
