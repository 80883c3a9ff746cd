"""Whether an engine process still answers: one that hangs is as good as dead, but nobody would be told."""

import asyncio
from collections.abc import Callable

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

INTERVAL_S = 1.0
PATIENCE_S = 10.0
"""Longer than any loop of an engine is blocked by honest work."""


async def pulse(channel: grpc.aio.Channel, kill: Callable[[str], None]) -> None:
    """Ask after an engine process's health again and again; when it has not answered for PATIENCE_S, `kill` is told so."""
    health = health_pb2_grpc.HealthStub(channel)
    while True:
        try:
            await health.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                kill(f"did not answer for {PATIENCE_S:g} s")
                return
        await asyncio.sleep(INTERVAL_S)
