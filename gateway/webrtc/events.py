"""The data channel of a peer: what the session tells, and what its user wants."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aiortc import RTCDataChannel

from gateway.live.program import Told
from gateway.webrtc import messages
from gateway.webrtc.clock import MediaClock
from gateway.webrtc.faults import Fault, fault_of
from gateway.webrtc.messages import Message
from gateway.webrtc.surface import Talker
from services.runtime.errors import DomainError, InvalidInput

LABEL = "events"
CLOCK_S = 1.0
MOST_WAITING = 32
"""Commands that wait for those before them."""
MOST_BYTES = 16 * 1024
MOST_BUFFERED_BYTES = 1024 * 1024
"""Of what a client does not take; the rest is not sent."""
log = logging.getLogger(__name__)


class Events:
    """Speaks JSON with whoever opens a channel named LABEL."""

    def __init__(self, session: Talker, clock: MediaClock, voice: str, commands: bool) -> None:
        """A peer that only watches may not say anything: no `commands`."""
        self._session = session
        self._clock = clock
        self._started = messages.started(session.started, voice)
        self._commands = commands
        self._channel: RTCDataChannel | None = None
        self._state: Message | None = None
        self._wanted: asyncio.Queue[Message] = asyncio.Queue(MOST_WAITING)
        self.unsent = 0
        """Messages that found the channel full."""

    def opened(self, channel: RTCDataChannel) -> None:
        """A client has opened a channel."""
        if channel.label != LABEL or self._channel is not None:
            channel.close()
            return
        self._channel = channel
        channel.on("message", self._received)
        self.send(self._started)
        if self._state is not None:
            self.send(self._state)
        self._tell_time()

    def send(self, message: Message) -> None:
        """Send a message, if there is somebody to take it."""
        if self._channel is None or self._channel.readyState != "open":
            return
        if self._channel.bufferedAmount > MOST_BUFFERED_BYTES:
            self.unsent += 1
            return
        self._channel.send(json.dumps(message, ensure_ascii=False, separators=(",", ":")))

    def troubled(self, error: DomainError) -> None:
        """Tell of an error."""
        self.send(messages.error(fault_of(error)))

    async def tell(self) -> None:
        """Send what happens, until the session ends."""
        rate_hz = self._session.program.rate_hz
        with self._session.program.watch(sound=False, pictures=False) as viewer:
            async for item in viewer:
                assert isinstance(item, Told)
                message = messages.told(item.event, rate_hz)
                if message is not None:
                    self._tell(message)

    def _tell(self, message: Message) -> None:
        if message["type"] == "state":
            if message == self._state:
                return
            self._state = message
        self.send(message)

    async def tick(self) -> None:
        """Say what time it is, until cancelled."""
        while True:
            await asyncio.sleep(CLOCK_S)
            self._tell_time()

    def _tell_time(self) -> None:
        if self._clock.running:
            self.send({"type": "clock", "ms": self._clock.latest_ms})

    async def obey(self) -> None:
        """Do what is wanted, one after the other, until cancelled."""
        while True:
            await self._do(await self._wanted.get())

    def _received(self, data: str | bytes) -> None:
        """A message of the client, as it comes from aiortc: nothing may be raised here."""
        try:
            message = parsed(data)
            if not self._commands:
                self.send(messages.error(Fault("PERMISSION_DENIED", "a viewer only watches", "type")))
            else:
                self._wanted.put_nowait(message)
        except DomainError as error:
            self.troubled(error)
        except asyncio.QueueFull:
            busy = Fault("RESOURCE_EXHAUSTED", f"{MOST_WAITING} commands are waiting already", "type", 1.0)
            self.send(messages.error(busy))

    async def _do(self, message: Message) -> None:
        try:
            await command(self._session, message)
        except DomainError as error:
            self.troubled(error)
        except Exception as error:
            log.exception("%s failed", message["type"])
            self.send(messages.error(Fault("INTERNAL", f"{message['type']}: {type(error).__name__}")))


def parsed(data: str | bytes) -> Message:
    """A message of a client. Raises InvalidInput."""
    if len(data) > MOST_BYTES:
        raise InvalidInput("message", f"{len(data)} bytes", f"at most {MOST_BYTES}")
    try:
        message = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidInput("message", "is no JSON") from error
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise InvalidInput("message", "has no type", 'an object with a "type"')
    if message["type"] not in COMMANDS:
        raise InvalidInput("type", f"{message['type'][:40]!r} is not known", f"one of {', '.join(COMMANDS)}")
    if message["type"] in WITH_TEXT and not isinstance(message.get("text"), str):
        raise InvalidInput("text", "is missing or no string")
    return message


async def command(session: Talker, message: Message) -> None:
    """Do what a message asks for."""
    do: Callable[[Talker, Message], Awaitable[Any]] = COMMANDS[message["type"]]
    await do(session, message)


WITH_TEXT = ("ask", "say")
COMMANDS: dict[str, Callable[[Talker, Message], Awaitable[Any]]] = {
    "ask": lambda session, message: session.ask(message["text"]),
    "say": lambda session, message: session.say(message["text"]),
    "start_turn": lambda session, _: session.start_of_turn(),
    "end_turn": lambda session, _: session.end_of_turn(),
    "interrupt": lambda session, _: session.interrupt(),
}
