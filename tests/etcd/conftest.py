"""One etcd for all of these tests: starting one takes longer than most of them."""

from collections.abc import AsyncIterator
from signal import Signals

import pytest_asyncio

from services.runtime.etcd import Etcd, connected, etcd_settings
from tests.fakes.etcd import etcd_server
from tools.etcd import LocalEtcd


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared() -> AsyncIterator[LocalEtcd]:
    async with etcd_server() as server:
        yield server


@pytest_asyncio.fixture(loop_scope="session")
async def etcd(shared: LocalEtcd) -> LocalEtcd:
    """An etcd that runs, whatever the test before has done to it."""
    if not shared.running:
        await shared.start()
    shared.signal(Signals.SIGCONT)
    return shared


@pytest_asyncio.fixture(loop_scope="session")
async def client(etcd: LocalEtcd) -> AsyncIterator[Etcd]:
    """A client of an etcd without keys."""
    async with connected(etcd_settings(etcd.endpoint)) as client:
        await client.delete("", prefix=True)
        yield client
