"""The outputs over HTTP, on a port of their own."""

from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI

from gateway.http.errors import told_as_json
from gateway.http.outputs_routes import router_of
from gateway.http.serving import serving
from gateway.outputs.outputs import outputs
from tests.fakes.programme import FakeSessions


@pytest.fixture
async def sessions() -> FakeSessions:
    return FakeSessions()


@pytest.fixture
async def site(sessions: FakeSessions) -> AsyncIterator[str]:
    app = FastAPI()
    told_as_json(app)
    async with outputs(sessions) as made:
        app.include_router(router_of(sessions, made))
        async with serving(app, "127.0.0.1:0", grace_s=1) as port:
            yield f"http://127.0.0.1:{port}"
