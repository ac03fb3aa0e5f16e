"""One look at the queue's revision for all clients that wait for changes, however many they are."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from thinslice.errors import ThinsliceError
from thinslice.queue import Queue

EVERY_S = 0.25
"""Time between two looks."""


class Changes:
    """The newest revision of the queue, and a way to wait for the next one."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._changed = asyncio.Condition()
        self.revision = queue.revision()

    async def watch(self) -> None:
        """Look for changes until the task is cancelled."""
        while True:
            with suppress(ThinsliceError):
                newest = await asyncio.to_thread(self._queue.revision)
                if newest != self.revision:
                    async with self._changed:
                        self.revision = newest
                        self._changed.notify_all()
            await asyncio.sleep(EVERY_S)

    async def after(self, revision: int) -> int:
        """The newest revision, once it is above the given one."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.revision > revision)
            return self.revision
