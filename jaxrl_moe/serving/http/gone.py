"""Work for clients that may go away meanwhile."""
import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

from fastapi import Request


async def unless_gone(work: Coroutine[Any, Any, Any], request: Request):
    """The result of the work; None, with the work cancelled, if the client closes the connection first."""
    tasks = [asyncio.ensure_future(work), asyncio.ensure_future(gone(request))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return tasks[0].result() if tasks[0].done() else None
    finally:
        for task in tasks:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await tasks[1]


async def gone(request: Request) -> None:
    """Returns once the client has closed its connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
