"""The HTTP interface does what its own OpenAPI document says, whatever it is asked: schemathesis against a real server.

Left out is what a schema of JSON cannot describe: offers and candidates of WebRTC (`/whip`, `/whep`, their PATCH and
DELETE), streams without an end (`/live/…`), and the talk page itself.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest import SkipTest

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from services.runtime.etcd import connected, etcd_settings
from tests.fakes.sites import administered_site
from tools.etcd import running_etcd

READY_S = 60.0
REJECTED = [400, 404, 405, 409, 412, 413, 503]
EXAMPLES = {GenerationMode.POSITIVE: 10, GenerationMode.NEGATIVE: 15}
"""Of each operation."""
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
    unsupported_method,
]


@asynccontextmanager
async def site(folder: Path) -> AsyncIterator[int]:
    """The port of a gateway's HTTP side on an etcd of its own."""
    async with (
        running_etcd(folder / "etcd", sync=False) as server,
        connected(etcd_settings(server.endpoint)) as etcd,
        administered_site(etcd) as (port, _),
    ):
        yield port


class Site(threading.Thread):
    """The site on a loop of its own: schemathesis asks from this thread, and waits for the answers."""

    def __init__(self, folder: Path) -> None:
        super().__init__(daemon=True)
        self.folder = folder
        self.port = 0
        self.ready = threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self.error = error
            raise
        finally:
            self.ready.set()

    async def _serve(self) -> None:
        self.loop, self.over = asyncio.get_running_loop(), asyncio.Event()
        async with site(self.folder) as self.port:
            self.ready.set()
            await self.over.wait()

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.over.set)
        self.join(READY_S)


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    site = Site(tmp_path_factory.mktemp("schema"))
    site.start()
    assert site.ready.wait(READY_S) and not site.error, site.error
    yield site.port
    site.stop()


@pytest.fixture(scope="module")
def document(port: int) -> Any:
    checks = {
        "negative_data_rejection": {"expected-statuses": REJECTED},
        # Busy is no defect.
        "not_a_server_error": {"expected-statuses": ["2xx", "3xx", "4xx", 503]},
    }
    config = schemathesis.Config.from_dict({"checks": checks})
    return schemathesis.openapi.from_url(f"http://127.0.0.1:{port}/openapi.json", config=config)


LEFT_OUT = ("/live/", "/whip", "/whep", "/{place}/")


def operations(document: Any) -> Iterator[Any]:
    for found in document.get_all_operations():
        operation = found.ok()
        if operation.path != "/" and not operation.path.startswith(LEFT_OUT):
            yield operation


def asked(operation: Any, mode: GenerationMode) -> list[str]:
    """Ask for one operation in many ways; what was wrong with the answers."""

    @settings(
        max_examples=EXAMPLES[mode],
        derandomize=True,
        deadline=None,
        database=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        case.call_and_validate(checks=CHECKS, timeout=30)

    try:
        ask()
    except (Unsatisfiable, SkipTest):
        return []
    except FailureGroup as group:
        return [f"{operation.label} ({mode.value}): {failure}" for failure in group.exceptions]
    return []


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_it_does_what_its_document_says(document: Any, mode: GenerationMode) -> None:
    found = [problem for operation in operations(document) for problem in asked(operation, mode)]
    assert not found, "\n\n".join(found)


def test_the_document_names_every_route_and_how_to_get_in(document: Any) -> None:
    raw = document.raw_schema
    assert raw["openapi"].startswith("3.1")
    paths = raw["paths"]
    for path in ("/api/sessions", "/api/admin/models", "/api/admin/flags/{flag}", "/api/admin/slots/{service}/{slot}"):
        assert path in paths
    assert raw["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    ids = [operation["operationId"] for path in paths.values() for operation in path.values()]
    assert len(ids) == len(set(ids))
