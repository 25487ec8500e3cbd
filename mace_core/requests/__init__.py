"""Requests that wait for their turn on a device: futures, queues with priorities and deadlines, batches of requests."""

from mace_core.requests.batching import Batching
from mace_core.requests.future import RunFuture
from mace_core.requests.queue import QueueLimits, set_queue_limits

__all__ = ["Batching", "QueueLimits", "RunFuture", "set_queue_limits"]
