"""Answers to a stream of requests: several run at a time, and each is answered in its turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

Request = TypeVar("Request")
Answer = TypeVar("Answer")

AT_ONCE = 16
"""Requests of one stream that run or wait; a client that sends more is read no further until some are answered."""


async def in_order(
    requests: AsyncIterator[Request], run: Callable[[Request], Coroutine[Any, Any, Answer]], at_once: int = AT_ONCE
) -> AsyncIterator[Answer]:
    """The answers to ``requests``, in their order.

    Args:
        run: answers one; it raises nothing but what ends the stream.
    """
    started: asyncio.Queue[asyncio.Task[Answer] | None] = asyncio.Queue()
    room = asyncio.Semaphore(at_once)

    async def read() -> None:
        try:
            async for request in requests:
                started.put_nowait(asyncio.ensure_future(run(request)))
                await room.acquire()
        finally:
            started.put_nowait(None)

    reader = asyncio.ensure_future(read())
    task: asyncio.Task[Answer] | None = None
    try:
        while (task := await started.get()) is not None:
            yield await task
            room.release()
        await reader
    finally:
        reader.cancel()
        for each in (task, *_all(started)):
            if each is not None:
                each.cancel()


def _all(queue: asyncio.Queue[Any]) -> list[Any]:
    return [queue.get_nowait() for _ in range(queue.qsize())]


async def until(event: asyncio.Event, awaitable: Awaitable[Answer]) -> Answer | None:
    """What ``awaitable`` gives; None if ``event`` is set first, and then it is cancelled."""
    task = asyncio.ensure_future(awaitable)
    waiter = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({task, waiter}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        waiter.cancel()
        if not task.done():
            task.cancel()
