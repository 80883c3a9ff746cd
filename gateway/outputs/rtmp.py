"""Publishing to an RTMP server (Adobe's RTMP specification 1.0, 5.2 and 7), or to one behind TLS.

libav has this too, but cannot be used for it from Python: it connects while it holds the interpreter, so that a server
that accepts and says nothing stops every session of the process; nothing interrupts its writes; and it believes any
certificate, so that whoever is in between gets the stream key.
"""

import asyncio
import contextlib
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from gateway.outputs.amf import AmfError, decoded, encoded
from gateway.outputs.chunks import SEND_CHUNK_BYTES, ChunkError, ChunkReader, Message, chunked
from gateway.outputs.flv import Kind, Tag
from gateway.outputs.push_url import PushUrl
from gateway.outputs.rtmp_login import answer

VERSION, HANDSHAKE_BYTES = b"\x03", 1536
SET_CHUNK_SIZE, ABORT, ACKNOWLEDGEMENT, USER_CONTROL, WINDOW_SIZE, PEER_BANDWIDTH, COMMAND = 1, 2, 3, 4, 5, 6, 20
PING, PONG = 6, 7
CONNECT, RELEASE, ANNOUNCE, CREATE, PUBLISH, WITHDRAW, DELETE = range(1, 8)
"""The numbers of our commands, by which servers answer them."""
COURTESIES = (RELEASE, ANNOUNCE, WITHDRAW, DELETE)
"""Some servers want to be told these, and others know nothing of them, which is no refusal."""
CONTROL_CHANNEL, COMMAND_CHANNEL = 2, 3
CHANNELS = {Kind.AUDIO: 4, Kind.VIDEO: 6, Kind.DATA: 5}
SETUP_S = 10.0
"""From the look-up of the name to the server's consent."""
STALL_S = 5.0
"""A server that takes nothing for so long is given up."""
LAST_BYTES_S = 1.0
LOGIN_STEPS = 3
"""To hear that a login is wanted, to hear the challenge, and to answer it."""
# What lies between us and a server that is slow: it is late by that and no more. Enough for 10 Mbit/s at 100 ms.
BUFFER_BYTES = 32 * 1024
SOCKET_BYTES = 64 * 1024
COMMON_NAME = "FMLE/3.0 (compatible; talkmesh)"


class PushLost(Exception):
    """There is no connection to the server, or none any more. The message may hold what the server said."""


class Refusal(PushLost):
    """The server has answered no."""

    def __init__(self, code: str, description: str) -> None:
        self.description = description
        super().__init__(f"the server refuses: {code} {description}".rstrip())


class Publisher:
    """A connection on which a server has agreed to take a stream. Made by `publishing`."""

    def __init__(self, url: PushUrl, login: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._url, self._login = url, login
        self._reader, self._writer = reader, writer
        self._chunks = ChunkReader(reader)
        self._stream = 0
        self._window = self._acknowledged = 0
        self._lost: str = ""
        self.sent_bytes = 0

    async def send(self, tags: list[Tag]) -> None:
        """Send messages; waits while the server is slow. Raises PushLost."""
        if self._lost:
            raise PushLost(self._lost)
        for tag in tags:
            message = Message(tag.kind, tag.payload, self._stream, tag.timestamp_ms)
            self._write(message, CHANNELS[tag.kind])
        try:
            async with asyncio.timeout(STALL_S):
                await self._writer.drain()
        except TimeoutError:
            raise PushLost(self._lost or f"the server took nothing for {STALL_S:g} s") from None

    async def describe(self, metadata: dict[str, object]) -> None:
        """Tell what will come. Raises PushLost."""
        await self.send([Tag(Kind.DATA, 0, encoded("@setDataFrame", "onMetaData", metadata))])

    async def set_up(self) -> None:
        """Agree with the server on the stream."""
        await self._shake_hands()
        self._write(Message(SET_CHUNK_SIZE, struct.pack(">I", SEND_CHUNK_BYTES)), CONTROL_CHANNEL)
        place = {
            "app": self._url.app + self._login,
            "type": "nonprivate",
            "flashVer": COMMON_NAME,
            "tcUrl": self._url.place + self._login,
        }
        self._command("connect", CONNECT, place)
        await self._result(CONNECT)
        self._command("releaseStream", RELEASE, None, self._url.key)
        self._command("FCPublish", ANNOUNCE, None, self._url.key)
        self._command("createStream", CREATE, None)
        created = await self._result(CREATE)
        if not created or not isinstance(created[-1], float):
            raise PushLost("the server gave no number to the stream")
        self._stream = int(created[-1])
        self._command("publish", PUBLISH, None, self._url.key, "live", stream=self._stream)
        await self._result(PUBLISH)

    async def listen(self) -> None:
        """Answer the server until it says no more. Never raises: `send` does."""
        try:
            while True:
                await self._next_command()
        except PushLost as error:
            self._lost = str(error)
        # Whoever waits for the server to take more waits in vain.
        self._writer.transport.abort()

    def take_leave(self) -> None:
        """Say that the stream is over."""
        if self._lost or self._writer.is_closing() or not self._stream:
            return
        self._command("FCUnpublish", WITHDRAW, None, self._url.key)
        self._command("deleteStream", DELETE, None, float(self._stream))

    async def _shake_hands(self) -> None:
        self._writer.write(VERSION + bytes(8) + os.urandom(HANDSHAKE_BYTES - 8))
        if await self._reader.readexactly(1) != VERSION:
            raise PushLost("the server does not speak RTMP")
        theirs = await self._reader.readexactly(HANDSHAKE_BYTES)
        self._writer.write(theirs)
        await self._reader.readexactly(HANDSHAKE_BYTES)

    def _command(self, name: str, number: int, *values: object, stream: int = 0) -> None:
        self._write(Message(COMMAND, encoded(name, float(number), *values), stream), COMMAND_CHANNEL)

    def _write(self, message: Message, channel: int) -> None:
        data = chunked(message, channel)
        self._writer.write(data)
        self.sent_bytes += len(data)

    async def _result(self, number: int) -> list[object]:
        """What the server answers to a command. Raises PushLost with what it says if it refuses."""
        while True:
            name, values = await self._next_command()
            if name == "onStatus" and number == PUBLISH:
                return values
            if name == "_result" and values[:1] == [number]:
                return values

    async def _next_command(self) -> tuple[str, list[object]]:
        """The next command of the server, of which errors are raised as PushLost."""
        try:
            while True:
                message = await self._chunks.message()
                if message.kind == COMMAND:
                    break
                self._control(message)
            name, *values = decoded(message.payload) or [""]
        except (ChunkError, AmfError) as error:
            raise PushLost(f"the server does not speak RTMP: {error}") from error
        except (EOFError, OSError) as error:
            raise PushLost(self._lost or f"the server has closed the connection{reason(error)}") from error
        told = values[-1] if values and isinstance(values[-1], dict) else {}
        if name == "_error" and values[:1] and values[0] in COURTESIES:
            return "", []
        if name == "_error" or told.get("level") == "error":
            raise Refusal(str(told.get("code", "")), str(told.get("description", "")))
        return str(name), values

    def _control(self, message: Message) -> None:
        """Do what the protocol's own messages ask for."""
        number = int.from_bytes(message.payload[:4], "big")
        if message.kind == SET_CHUNK_SIZE:
            self._chunks.chunk_bytes = max(1, number & 0x7FFFFFFF)
        elif message.kind == ABORT:
            self._chunks.forget(number)
        elif message.kind == WINDOW_SIZE:
            self._window = number
        elif message.kind == USER_CONTROL and message.payload[:2] == struct.pack(">H", PING):
            self._write(Message(USER_CONTROL, struct.pack(">H", PONG) + message.payload[2:6]), CONTROL_CHANNEL)
        received = self._chunks.received_bytes
        if self._window and received - self._acknowledged >= self._window:
            self._acknowledged = received
            self._write(Message(ACKNOWLEDGEMENT, struct.pack(">I", received & 0xFFFFFFFF)), CONTROL_CHANNEL)


@asynccontextmanager
async def publishing(url: PushUrl, tls: ssl.SSLContext | None = None) -> AsyncIterator[Publisher]:
    """A stream to the server of `url`, ended on leaving. Raises PushLost when the server cannot be had."""
    async with AsyncExitStack() as stack:
        yield await logged_in(stack, url, tls)


async def logged_in(stack: AsyncExitStack, url: PushUrl, tls: ssl.SSLContext | None) -> Publisher:
    """A stream on the connection at which the server is content with who we are."""
    login: str = ""
    for _ in range(LOGIN_STEPS):
        try:
            return await stack.enter_async_context(agreed(url, tls, login))
        except Refusal as refusal:
            told = answer(refusal.description, url)
            if told is None:
                raise
            login = told
    raise PushLost("the server does not believe user and password")


@asynccontextmanager
async def agreed(url: PushUrl, tls: ssl.SSLContext | None, login: str) -> AsyncIterator[Publisher]:
    """A stream on a connection of its own. Raises PushLost, and Refusal when the server says no."""
    async with connected(url, tls) as (reader, writer):
        publisher = Publisher(url, login, reader, writer)
        try:
            async with asyncio.timeout(SETUP_S):
                await publisher.set_up()
        except TimeoutError:
            raise PushLost(f"the server did not answer within {SETUP_S:g} s") from None
        except (EOFError, OSError) as error:
            raise PushLost(f"the server has closed the connection{reason(error)}") from error
        listening = asyncio.create_task(publisher.listen())
        try:
            yield publisher
        except OSError as error:
            await asyncio.wait([listening], timeout=LAST_BYTES_S)
            raise PushLost(f"the connection broke{reason(error)}") from error
        finally:
            listening.cancel()
            publisher.take_leave()


@asynccontextmanager
async def connected(
    url: PushUrl, tls: ssl.SSLContext | None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection, whose last bytes get LAST_BYTES_S on leaving."""
    context = (tls or ssl.create_default_context()) if url.encrypted else None
    try:
        async with asyncio.timeout(SETUP_S):
            reader, writer = await asyncio.open_connection(url.host, url.port, ssl=context)
    except TimeoutError:
        raise PushLost(f"the server did not answer within {SETUP_S:g} s") from None
    except OSError as error:
        raise PushLost(f"no connection to the server{reason(error)}") from error
    except UnicodeError:
        raise PushLost("no connection to the server: its name cannot be one") from None
    bounded(writer)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(LAST_BYTES_S):
                await writer.wait_closed()
        writer.transport.abort()


def bounded(writer: asyncio.StreamWriter) -> None:
    """Hold little, and send at once."""
    writer.transport.set_write_buffer_limits(high=BUFFER_BYTES)
    connection = writer.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def reason(error: EOFError | OSError) -> str:
    """Why, in the system's words; never with an address in them, which may be secret."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f": {error.verify_message}"
    if not isinstance(error, OSError) or error.errno is None:
        return ""
    # The resolver's and TLS's own numbers mean nothing to the system.
    said = error.strerror if isinstance(error, socket.gaierror | ssl.SSLError) else os.strerror(error.errno)
    return f": {said}"
