"""A network between fe and the API server that a test can take away: bytes stop, connections are forgotten.

Owns: one listening port in front of the emulator's, and what passes between them. Frozen, it is to both ends as if a
cable were pulled: connections stand, new ones are accepted, and nothing comes. Runs on the loop that it is started on.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from tests.kubernetes.emulator import Emulator
from tests.kubernetes.emulator.http import LOOPBACK


class Relay:
    """Passes everything on, from `start` to `stop`."""

    def __init__(self, emulator: Emulator) -> None:
        self._emulator = emulator
        self._server: asyncio.Server
        self._tasks: set[asyncio.Task[None]] = set()
        self._era = 0  # connections of a former one are forgotten
        self._passing = asyncio.Event()
        self._passing.set()

    def through(self, kubeconfig: Path) -> Path:
        """Changes this file of the emulator's so that it leads here."""
        port = self._server.sockets[0].getsockname()[1]
        kubeconfig.write_text(kubeconfig.read_text().replace(self._emulator.url, f"http://{LOOPBACK}:{port}"))
        return kubeconfig

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._on_client, LOOPBACK, 0)

    async def stop(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def freeze(self) -> None:
        """Nothing passes from now on."""
        self._passing.clear()

    def thaw(self, forget: bool = True) -> None:
        """What is new passes again. `forget`: nothing ever does on connections that there are; else what was held."""
        self._era += forget
        self._passing.set()

    async def _on_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        era = self._era
        with contextlib.suppress(ConnectionError, asyncio.CancelledError), contextlib.closing(writer):
            await self._pass(era)
            back, forth = await asyncio.open_connection(LOOPBACK, int(self._emulator.url.rpartition(":")[2]))
            with contextlib.closing(forth):
                pumps = [asyncio.ensure_future(self._pump(era, *way)) for way in ((reader, forth), (back, writer))]
                try:
                    await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for pump in pumps:
                        pump.cancel()
                    await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(self, era: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(1 << 16):
            await self._pass(era)
            writer.write(chunk)
            await writer.drain()

    async def _pass(self, era: int) -> None:
        """Waits until the network is there; for ever, if the connection is of before it went."""
        await self._passing.wait()
        if era != self._era:
            await asyncio.get_running_loop().create_future()
