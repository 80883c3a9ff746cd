"""A live session more than the machine has room for."""

import asyncio

from services.runtime.desired import SERVICES
from talkmesh import Client, SessionConfig, TalkmeshError, Video
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


async def test_it_is_told_to_come_back_and_takes_nothing_from_those_who_are_there(addresses: dict[str, str]) -> None:
    services = [part for name in SERVICES for part in (f"--{name}", addresses[name])]
    async with gateway_process(*services, "--live-processor", "0.02") as gateway:
        address = await gateway.at("listening on")
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
