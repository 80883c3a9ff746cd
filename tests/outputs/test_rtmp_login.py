"""Servers that want a user and a password."""

import asyncio
import base64
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from gateway.outputs.amf import decoded, encoded
from gateway.outputs.chunks import SEND_CHUNK_BYTES, ChunkReader, Message, chunked
from gateway.outputs.push_url import push_url
from gateway.outputs.rtmp import (
    COMMAND,
    COMMAND_CHANNEL,
    CONTROL_CHANNEL,
    SET_CHUNK_SIZE,
    PushLost,
    Refusal,
    publishing,
)
from gateway.outputs.rtmp_login import answer, proof

SALT, OPAQUE = "c2FsdA", "b3BhcXVl"


@dataclass
class Guarded:
    """A server that lets in who knows the password of ann."""

    password: str = "pw12"
    apps: list[str] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(EOFError, OSError):
            await reader.readexactly(1537)
            writer.write(b"\x03" + os.urandom(1536) + bytes(1536))
            await reader.readexactly(1536)
            writer.write(chunked(Message(SET_CHUNK_SIZE, SEND_CHUNK_BYTES.to_bytes(4, "big")), CONTROL_CHANNEL))
            await self._commands(ChunkReader(reader), writer)
        writer.close()

    async def _commands(self, chunks: ChunkReader, writer: asyncio.StreamWriter) -> None:
        def say(*values: object) -> None:
            writer.write(chunked(Message(COMMAND, encoded(*values)), COMMAND_CHANNEL))

        while True:
            message = await chunks.message()
            if message.kind == SET_CHUNK_SIZE:
                chunks.chunk_bytes = SEND_CHUNK_BYTES
            if message.kind != COMMAND:
                continue
            name, number, *values = decoded(message.payload)
            if name == "connect":
                assert isinstance(values[0], dict)
                refusal = self._refusal(str(values[0]["app"]))
                if refusal:
                    code = "NetConnection.Connect.Rejected"
                    say("_error", number, None, {"level": "error", "code": code, "description": refusal})
                    return
                say("_result", number, None, {"level": "status", "code": "NetConnection.Connect.Success"})
            elif name in ("releaseStream", "FCPublish"):
                say("_error", number, None, {"level": "error", "code": "NetConnection.Call.Failed"})
            elif name == "createStream":
                say("_result", number, None, 1.0)
            elif name == "publish":
                say("onStatus", 0.0, None, {"level": "status", "code": "NetStream.Publish.Start"})

    def _refusal(self, app: str) -> str:
        self.apps.append(app)
        name, _, query = app.partition("?")
        asked = dict(part.partition("=")[::2] for part in query.split("&"))
        reject = "[ AccessManager.Reject ] :"
        if asked.get("authmod") != "adobe":
            return f"{reject} [ code=403 need auth; authmod=adobe ] :"
        if "response" not in asked:
            challenge = f"?reason=needauth&user={asked['user']}&salt={SALT}&challenge=xyz&opaque={OPAQUE}"
            return f"{reject} [ authmod=adobe ] : {challenge}"
        known = md5("ann" + SALT + self.password)
        if asked["response"] != md5(known + OPAQUE + asked["challenge"]) or name != "live":
            return f"{reject} [ authmod=adobe ] : ?reason=authfailed&opaque={OPAQUE}"
        return ""


def md5(text: str) -> str:
    return base64.b64encode(hashlib.md5(text.encode()).digest()).decode()


@asynccontextmanager
async def guarded(password: str = "pw12") -> AsyncIterator[tuple[Guarded, int]]:
    guard = Guarded(password)
    server = await asyncio.start_server(guard.serve, "127.0.0.1", 0)
    async with server:
        yield guard, server.sockets[0].getsockname()[1]


async def test_a_user_with_a_password_comes_in() -> None:
    async with guarded() as (guard, port):
        async with publishing(push_url(f"rtmp://ann:pw12@127.0.0.1:{port}/live/key")) as publisher:
            await publisher.describe({"encoder": "test"})
        assert len(guard.apps) == 3
        assert "pw12" not in "".join(guard.apps)


@pytest.mark.parametrize("login", ["ann:wrong@", "ann:@", ""])
async def test_nobody_else_does(login: str) -> None:
    async with guarded() as (_, port):
        with pytest.raises(Refusal) as refused:
            async with publishing(push_url(f"rtmp://{login}127.0.0.1:{port}/live/key")):
                pass
        assert isinstance(refused.value, PushLost)
        assert "AccessManager.Reject" in str(refused.value)


def test_the_proof_is_the_one_that_servers_know() -> None:
    """Also without `opaque`, when the challenge takes its place."""
    url = push_url("rtmp://ann:pw12@host/live/key")
    expected = md5(md5("ann" + "s" + "pw12") + "c" + "0badcafe")
    assert proof({"salt": "s", "challenge": "c"}, url, "0badcafe") == f"&challenge=0badcafe&response={expected}"
    assert answer("NetConnection.Connect.Rejected", url) is None
