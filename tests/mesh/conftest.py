from collections.abc import AsyncIterator

import pytest

from tests.fakes.hosts import Host, running


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    """A host that serves the echo service; on leaving it must have ended cleanly."""
    async with running() as host:
        yield host
