"""RTMP's chunk stream (Adobe's specification, 5.3): messages, cut into chunks, with headers that leave out what is known."""

import asyncio
import struct
from dataclasses import dataclass

SEND_CHUNK_BYTES = 4096
FIRST_RECEIVE_CHUNK_BYTES = 128
LONGEST_MESSAGE_BYTES = 1 << 20
MOST_STREAMS = 64
EXTENDED = 0xFFFFFF
HEADER_BYTES = (11, 7, 3, 0)


class ChunkError(ValueError):
    """A peer does not speak RTMP."""


@dataclass(frozen=True)
class Message:
    """One message; `kind` is its type id, `stream` 0 for the connection itself."""

    kind: int
    payload: bytes
    stream: int = 0
    timestamp_ms: int = 0


def chunked(message: Message, channel: int) -> bytes:
    """A message in chunks of SEND_CHUNK_BYTES on a chunk stream (2 to 63), with a full header."""
    timestamp, extension = message.timestamp_ms & 0xFFFFFFFF, b""
    if timestamp >= EXTENDED:
        timestamp, extension = EXTENDED, struct.pack(">I", timestamp)
    first = struct.pack(">B", channel) + timestamp.to_bytes(3, "big") + len(message.payload).to_bytes(3, "big")
    first += struct.pack(">B", message.kind) + struct.pack("<I", message.stream) + extension
    further = struct.pack(">B", 0xC0 | channel) + extension
    parts = [
        message.payload[at : at + SEND_CHUNK_BYTES] for at in range(0, len(message.payload), SEND_CHUNK_BYTES)
    ] or [b""]
    return first + further.join(parts)


@dataclass
class Channel:
    """A chunk stream that is being read."""

    timestamp_ms: int = 0
    length: int = 0
    kind: int = 0
    stream: int = 0
    extended: bool = False
    received: bytes = b""


class ChunkReader:
    """Puts messages together again."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._channels: dict[int, Channel] = {}
        self.chunk_bytes = FIRST_RECEIVE_CHUNK_BYTES
        self.received_bytes = 0

    async def message(self) -> Message:
        """The next message. Raises ChunkError, and EOFError or OSError at the end of the connection."""
        while True:
            channel = await self._chunk()
            if len(channel.received) == channel.length:
                payload, channel.received = channel.received, b""
                return Message(channel.kind, payload, channel.stream, channel.timestamp_ms)

    def forget(self, channel: int) -> None:
        """Drop what came of a message that its sender has given up."""
        if channel in self._channels:
            self._channels[channel].received = b""

    async def _chunk(self) -> Channel:
        layout, number = divmod((await self._exactly(1))[0], 64)
        if number == 0:
            number = 64 + (await self._exactly(1))[0]
        elif number == 1:
            number = 64 + int.from_bytes(await self._exactly(2), "little")
        channel = self._channels.setdefault(number, Channel())
        if len(self._channels) > MOST_STREAMS:
            raise ChunkError("too many chunk streams")
        await self._header(channel, layout)
        missing = channel.length - len(channel.received)
        channel.received += await self._exactly(min(missing, self.chunk_bytes))
        return channel

    async def _header(self, channel: Channel, layout: int) -> None:
        header = await self._exactly(HEADER_BYTES[layout])
        if layout < 3:
            channel.extended = header[:3] == b"\xff\xff\xff"
        if layout < 2:
            channel.length, channel.kind = int.from_bytes(header[3:6], "big"), header[6]
            channel.received = b""
        if layout == 0:
            channel.stream = int.from_bytes(header[7:11], "little")
        if channel.length > LONGEST_MESSAGE_BYTES:
            raise ChunkError(f"a message of {channel.length} bytes")
        if channel.extended:
            channel.timestamp_ms = int.from_bytes(await self._exactly(4), "big")
        elif layout < 3:
            given = int.from_bytes(header[:3], "big")
            channel.timestamp_ms = given if layout == 0 else channel.timestamp_ms + given

    async def _exactly(self, count: int) -> bytes:
        self.received_bytes += count
        return await self._reader.readexactly(count)
