"""A real voice whose neighbours would not understand it is refused before anybody hears it."""

import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format

from services.runtime.desired import generation_of, model_key, observed_key, slot_key
from services.runtime.etcd import Etcd, connected, etcd_settings
from services.runtime.settings import CATALOG_FOLDER
from talkmesh.model.v1 import model_pb2
from tests.fakes.hosts import until
from tools.etcd import free_port, running_etcd
from tools.up import Member, MergedLog

pytestmark = pytest.mark.mesh
PATIENCE_S = 60.0


def entry(model: str, **changed: Any) -> dict[str, Any]:
    """A voice of the catalog, with changes."""
    found: dict[str, Any] = json.loads((CATALOG_FOLDER / "tts.json").read_text())[model]
    return found | changed


async def neighbour(etcd: Etcd, service: str, **interface: Any) -> None:
    """Another service's host, as far as the voice can see it."""
    serving = model_pb2.ModelStatus(
        model=model_pb2.ServingModel(service=service, model="any"),
        slots=["stable"],
        interface=model_pb2.Interface(**interface),
    )
    status = model_pb2.HostStatus(service=service, instance="any", models=[serving])
    await etcd.put(observed_key(service, "any"), json_format.MessageToJson(status))


async def slot(etcd: Etcd) -> model_pb2.SlotStatus:
    kv = await etcd.get(observed_key("tts", "tts"))
    found = json_format.Parse(kv.value, model_pb2.HostStatus()) if kv else model_pb2.HostStatus()
    return found.slots[0] if found.slots else model_pb2.SlotStatus()


async def serves(etcd: Etcd, model: str) -> None:
    async def does() -> bool:
        return (await slot(etcd)).model == model

    await until(does, PATIENCE_S, every_s=0.1)


async def refused(etcd: Etcd, model: str) -> str:
    """Want a voice that will not be served; returns why."""
    await etcd.put(slot_key("tts"), json.dumps({"model": model}))
    kv = await etcd.get(slot_key("tts"))
    assert kv

    async def has_failed() -> bool:
        found = await slot(etcd)
        current = found.wanted_generation == generation_of(kv.create_revision, kv.version)
        return current and found.phase == model_pb2.PHASE_FAILED

    await until(has_failed, PATIENCE_S, every_s=0.1)
    assert (await slot(etcd)).model == "heart"
    return (await slot(etcd)).error


@asynccontextmanager
async def voice() -> AsyncIterator[Etcd]:
    """The real TTS service, serving heart by an etcd; yields a client of that."""
    with tempfile.TemporaryDirectory() as name:
        async with (
            running_etcd(Path(name) / "etcd", sync=False) as server,
            connected(etcd_settings(server.endpoint)) as etcd,
        ):
            await etcd.put(model_key("tts", "heart"), json.dumps(entry("heart")))
            await etcd.put(slot_key("tts"), '{"model": "heart"}')
            address = f"127.0.0.1:{free_port()}"
            own = ("--listen", address, "--etcd", server.endpoint, "--instance", "tts")
            member = Member("tts", (sys.executable, "-m", "services.tts", *own), address)
            log = MergedLog(Path(name), None)
            task = asyncio.create_task(member.run(log, dict(os.environ)))
            try:
                await serves(etcd, "heart")
                yield etcd
            finally:
                await member.stop(signal.SIGTERM, 10)
                await task
                log.close()


async def test_phonemes_rates_and_declarations_that_do_not_fit() -> None:
    async with voice() as etcd:
        await etcd.put(model_key("tts", "again"), json.dumps(entry("heart", interface=None, golden={})))
        await neighbour(etcd, "animation", phonemes=["AA", "M"])
        error = await refused(etcd, "again")
        assert "phonemes: tts gives" in error
        assert "animation knows AA, M" in error
        await neighbour(etcd, "animation", sample_rates_hz=[8000, 16000])
        error = await refused(etcd, "again")
        assert "sample_rates_hz: tts gives 24000, animation takes 8000 to 16000" in error
        await neighbour(etcd, "animation")
        await neighbour(etcd, "asr", languages=["zh"])
        assert "languages" in await refused(etcd, "again")
        await neighbour(etcd, "asr", languages=["en"])
        wrong = entry("heart", interface={"sample_rates_hz": [22050]})
        await etcd.put(model_key("tts", "wrong"), json.dumps(wrong))
        assert "the engine reports 24000, the catalog says 22050" in await refused(etcd, "wrong")
        off = entry("heart", golden={"seconds": [9, 10]})
        await etcd.put(model_key("tts", "off"), json.dumps(off))
        assert "golden.seconds" in await refused(etcd, "off")
        await etcd.put(slot_key("tts"), '{"model": "again"}')
        await serves(etcd, "again")
