"""The token by which this user's own clients reach a mesh that `tools.up` runs on this machine."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from gateway.access.__main__ import written
from gateway.access.key_control import KeyControl, Wanted
from gateway.access.principals import SCOPES
from services.runtime.errors import DomainError
from services.runtime.etcd import connected, etcd_settings
from talkmesh.credentials import local_file

ACTOR = "tools.up"


@asynccontextmanager
async def local_token(endpoints: str, address: str) -> AsyncIterator[Path]:
    """A file, only for this user to read, with the token of an administrator; on leaving, neither is good any more.

    `address`: the gateway's, by whose port clients find the file. Raises DomainError.
    """
    wanted = Wanted(f"local-{secrets.token_hex(3)}", "admin", tuple(SCOPES))
    async with connected(etcd_settings(endpoints)) as etcd:
        issued, _ = await KeyControl(etcd).create(wanted, actor=ACTOR, reason="for this machine's own clients")
    path = local_file(address)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    written(path, issued.token)
    try:
        yield path
    finally:
        with suppress(OSError):
            if path.read_text(encoding="utf-8").strip() == issued.token:
                path.unlink()
        await forgotten(endpoints, issued.id)


async def forgotten(endpoints: str, id_: str) -> None:
    """Revoke the key, where etcd outlives the mesh."""
    with suppress(DomainError):
        async with connected(etcd_settings(endpoints)) as etcd:
            await KeyControl(etcd).revoke(id_, actor=ACTOR, reason="the mesh is over")
