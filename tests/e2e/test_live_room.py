"""A live session more than the machine has room for."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from services.runtime.desired import SERVICES
from talkmesh import AudioInput, Client, SessionConfig, TalkmeshError, Video
from tests.e2e.asking import collect
from tests.e2e.talking import person
from tests.mesh.test_gateway_hosts import gateway_process

FACE = SessionConfig(size=256)
KNOWN_S = 20.0


async def refused(address: str) -> TalkmeshError:
    """What is said to a newcomer, as soon as it is known what those who are there take."""
    async with Client(address) as client, asyncio.timeout(KNOWN_S):
        while True:
            try:
                async with client.live(FACE):
                    await asyncio.sleep(1)
            except TalkmeshError as error:
                return error


@asynccontextmanager
async def narrow(addresses: dict[str, str]) -> AsyncIterator[str]:
    """The address of a gateway in front of the mesh that takes one conversation for more than the machine can bear."""
    services = [part for name in SERVICES for part in (f"--{name}", addresses[name])]
    async with gateway_process(*services, "--live-processor", "0.02") as gateway:
        yield await gateway.at("listening on")


async def test_it_is_told_to_come_back_and_takes_nothing_from_those_who_are_there(addresses: dict[str, str]) -> None:
    async with narrow(addresses) as address:
        async with person(address, FACE, microphone=False) as user:
            await user.call.say("Hello there, how are you today?")
            error = await refused(address)
            assert error.code == "RESOURCE_EXHAUSTED"
            assert "of a machine, and one more does not fit" in str(error)
            await user.call.say("I am still here.")
            done = await user.turns(2)
            assert done[-1].reply_text == "I am still here."
        async with person(address, FACE, microphone=False) as user:
            await user.until(Video, 20)


async def test_a_conversation_that_is_not_live_leaves_its_room_when_it_ends(
    addresses: dict[str, str], question: Path
) -> None:
    async with narrow(addresses) as address:
        config = SessionConfig(input=AudioInput(16000), size=256, seed=1, temperature=0)
        async with Client(address) as client, client.session(config) as session:
            for _ in range(3):
                await collect(session.ask_wav(question, real_time=True))
            error = await refused(address)
            assert "conversations (1)" in str(error)
        async with person(address, FACE, microphone=False) as user:
            await user.until(Video, 20)
