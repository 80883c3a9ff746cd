"""What Prometheus reads, over HTTP as it does."""

import asyncio
import urllib.request

import grpc
import pytest

from gateway.metrics import Metrics, exposed
from services.runtime.serve import PortTaken
from talkmesh.conversation.v1 import conversation_pb2


async def read(port: int) -> list[str]:
    answer = await asyncio.to_thread(urllib.request.urlopen, f"http://127.0.0.1:{port}/metrics", None, 5)
    return [line for line in answer.read().decode().splitlines() if line.startswith("talkmesh_gateway_")]


async def test_numbers_come_out_with_units_and_few_labels() -> None:
    metrics = Metrics()
    waterfall = conversation_pb2.Waterfall(first_audio_ms=250)
    metrics.turn_done(conversation_pb2.TurnDone(outcome=conversation_pb2.OUTCOME_COMPLETED, waterfall=waterfall))
    metrics.turn_ended("failed")
    metrics.stream_ended("tts", grpc.StatusCode.UNAVAILABLE)
    metrics.stream_ended("tts", grpc.StatusCode.CANCELLED)
    metrics.reopened("tts")
    metrics.call_ended("OK")
    metrics.etcd.seen(7)
    async with exposed("127.0.0.1:0", metrics) as port:
        lines = await read(port)
    for line in (
        'talkmesh_gateway_turns_total{outcome="completed"} 1.0',
        'talkmesh_gateway_turns_total{outcome="failed"} 1.0',
        'talkmesh_gateway_first_audio_seconds_bucket{le="0.2"} 0.0',
        'talkmesh_gateway_first_audio_seconds_bucket{le="0.3"} 1.0',
        "talkmesh_gateway_first_video_seconds_count 0.0",
        'talkmesh_gateway_streams_total{service="tts"} 2.0',
        'talkmesh_gateway_stream_failures_total{code="UNAVAILABLE",service="tts"} 1.0',
        'talkmesh_gateway_streams_reopened_total{reason="drained",service="tts"} 1.0',
        'talkmesh_gateway_calls_total{code="OK"} 1.0',
        "talkmesh_gateway_sessions 0.0",
        "talkmesh_gateway_etcd_up 1.0",
        "talkmesh_gateway_etcd_revision 7.0",
        "talkmesh_gateway_etcd_staleness_seconds 0.0",
    ):
        assert line in lines
    assert not any("CANCELLED" in line for line in lines)


async def test_the_port_is_given_back() -> None:
    async with exposed("127.0.0.1:0", Metrics()) as port:
        with pytest.raises(PortTaken, match=str(port)):
            async with exposed(f"127.0.0.1:{port}", Metrics()):
                pass
    async with exposed(f"127.0.0.1:{port}", Metrics()):
        assert await read(port)
