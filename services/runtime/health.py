"""grpc.health.v1 of a server all of whose services are ready, or not, together."""

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc
from grpc_health.v1.health_pb2 import (
    HealthCheckRequest,
    HealthCheckResponse,
    HealthListRequest,
    HealthListResponse,
)

Context = grpc.aio.ServicerContext[Any, Any]


class HealthServicer:
    """Answers for "" and for each of `names`.

    Unlike the servicer that comes with grpc, a watch ends by itself when the server is about to: an open watch would
    otherwise use up the whole of a drain's grace. And a watcher that does not read holds up nobody.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = ("", *names)
        self._serving = False
        self._ending = False
        self._changed = asyncio.Condition()

    async def say(self, serving: bool, *, ending: bool = False) -> None:
        """Change what is answered; once `ending`, it stays NOT_SERVING."""
        async with self._changed:
            self._ending = self._ending or ending
            self._serving = serving and not self._ending
            self._changed.notify_all()

    async def Check(self, request: HealthCheckRequest, context: Context) -> HealthCheckResponse:
        if request.service not in self._names:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such service here")
        return HealthCheckResponse(status=self._status(request.service))

    async def List(self, request: HealthListRequest, context: Context) -> HealthListResponse:
        return HealthListResponse(
            statuses={name: HealthCheckResponse(status=self._status(name)) for name in self._names}
        )

    async def Watch(self, request: HealthCheckRequest, context: Context) -> None:
        told = -1
        while True:
            if (status := self._status(request.service)) != told:
                await context.write(HealthCheckResponse(status=status))
                told = status
            elif self._ending:
                return
            else:
                async with self._changed:
                    if status == self._status(request.service) and not self._ending:
                        await self._changed.wait()

    def _status(self, service: str) -> int:
        if service not in self._names:
            return int(HealthCheckResponse.SERVICE_UNKNOWN)
        return int(HealthCheckResponse.SERVING if self._serving else HealthCheckResponse.NOT_SERVING)


class HealthReport:
    """What this server says of itself, under "" and under each of its services' names."""

    def __init__(self, names: Sequence[str]) -> None:
        self.servicer = HealthServicer(names)

    async def say(self, serving: bool) -> None:
        await self.servicer.say(serving)

    async def end(self) -> None:
        """Say NOT_SERVING for good, and end the watches."""
        await self.servicer.say(False, ending=True)
