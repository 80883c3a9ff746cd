"""Every way into the gateway has its line in the table; what has none is denied."""

from collections.abc import Iterator
from typing import Any
from unittest.mock import MagicMock

import pytest

from gateway.access import needs
from gateway.access.needs import DENIED, FREE, Need, of_route, of_rpc
from gateway.access.principals import EVERYBODY, NOBODY, Principal, Role, Scope
from gateway.http.app import app_of
from gateway.http.page_routes import Offerings
from gateway.webrtc.settings import WebRtcSettings
from talkmesh.admin.v1 import admin_pb2
from talkmesh.conversation.v1 import conversation_pb2
from talkmesh.live.v1 import live_pb2

SERVED = (admin_pb2, conversation_pb2, live_pb2)


def rpcs() -> Iterator[str]:
    for module in SERVED:
        for service in module.DESCRIPTOR.services_by_name.values():
            yield from (f"/{service.full_name}/{method.name}" for method in service.methods)


def routes(found: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Method and path of every route, those of included routers too; where a path begins with a choice, each of it."""
    for route in found:
        if inner := getattr(route, "original_router", None):
            yield from routes(inner.routes, prefix + route.include_context.prefix)
        for method in getattr(route, "methods", None) or ():
            path = prefix + route.path
            yield from (
                (method, path.replace("{place}", place)) for place in ("whip", "whep")[: 1 + ("{place}" in path)]
            )


async def test_every_route_has_its_line() -> None:
    async def offered() -> Offerings:
        return Offerings((), ())

    unused: Any = MagicMock(settings=WebRtcSettings())
    app = app_of(unused, unused, unused, offered, "1", outputs=unused, ratings=unused, admin=unused)
    found = {each for each in routes(app.routes) if each[0] != "HEAD"}
    assert len(found) >= 40
    assert [each for each in found if of_route(*each) == DENIED] == []


def test_no_path_fits_two_lines_that_need_different_things() -> None:
    for method, path in needs.ROUTES:
        fits = {need for kind, fit, need in needs.LINES if kind == method and fit.fullmatch(path)}
        assert len(fits) == 1, path


def test_every_rpc_has_its_line() -> None:
    assert [each for each in rpcs() if of_rpc(each) == DENIED] == []


@pytest.mark.parametrize(
    "method", ["/talkmesh.admin.v1.AdminService/New", "/x.Y/Z", "", "/grpc.health.v2.Health/Check"]
)
def test_what_has_no_line_is_for_nobody(method: str) -> None:
    admin = Principal("1", "ann", Role.ADMIN, frozenset(Scope))
    assert not of_rpc(method).met_by(admin)
    assert not of_route("GET", "/nowhere").met_by(admin)
    assert not of_route("POST", "/static/x").met_by(admin)


def test_roles_hold_what_the_ones_before_them_hold() -> None:
    read, change, admin = (
        of_rpc(f"/talkmesh.admin.v1.AdminService/{name}") for name in ("ListCatalog", "SetSlot", "CreateKey")
    )
    met = [[need.met_by(Principal("1", "ann", role)) for need in (read, change, admin)] for role in Role]
    assert met == [[False] * 3, [True, False, False], [True, True, False], [True] * 3]


def test_no_role_may_talk_by_itself_and_no_scope_may_change() -> None:
    talk, swap = of_route("POST", "/whip"), of_rpc("/talkmesh.admin.v1.AdminService/SetSlot")
    assert not talk.met_by(Principal("1", "ann", Role.ADMIN))
    talker = Principal("1", "ann", scopes=frozenset({Scope.TALK}))
    assert talk.met_by(talker)
    assert not swap.met_by(talker)


@pytest.mark.parametrize(
    ("method", "path", "wanted"),
    [
        ("GET", "/api/admin/slots", needs.VIEWER),
        ("POST", "/api/admin/slots", needs.OPERATOR),
        ("GET", "/api/admin/keys", needs.ADMIN),
        ("DELETE", "/api/admin/keys/{id}", needs.ADMIN),
        ("POST", "/ofrep/v1/evaluate/flags", needs.TALK_OR_VIEWER),
        ("POST", "/api/sessions/{session_id}/feedback", needs.TALK),
        ("HEAD", "/static/js/main.js", FREE),
        ("DELETE", "/api/admin/x", needs.OPERATOR),
        ("GET", "/live/one/index.m3u8", needs.BY_ID),
    ],
)
def test_routes_of_a_kind(method: str, path: str, wanted: Need) -> None:
    assert of_route(method, path) == wanted


def test_what_needs_nothing_is_for_nobody_in_particular_too() -> None:
    assert FREE.met_by(NOBODY)
    assert not DENIED.met_by(EVERYBODY)
