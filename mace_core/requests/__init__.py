"""Requests that wait for their turn on a device: futures, queues with priorities and deadlines, batches of requests."""

from mace_core.requests.batching import Batching
from mace_core.requests.future import RunFuture
from mace_core.requests.queue import DeviceQueue, QueueLimits, queues, set_queue_limits

__all__ = ["Batching", "DeviceQueue", "QueueLimits", "RunFuture", "queues", "set_queue_limits"]
