"""What each call needs: the one table, for gRPC and HTTP. What is not in it is denied to everybody.

A live session's id is 128 random bits and known to those who were given it: it says *which* session, the token whether
one may talk at all. Media (HLS, MP4) ask for the id alone: players cannot send headers. To list ids takes an operator.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from gateway.access.principals import Principal, Role, Scope


@dataclass(frozen=True)
class Need:
    """A role, or a scope; one of them is enough. `free`: neither."""

    role: Role = Role.NONE
    scope: Scope | None = None
    free: bool = False

    def met_by(self, principal: Principal) -> bool:
        if self.role and principal.role >= self.role:
            return True
        return self.free or (self.scope is not None and self.scope in principal.scopes)

    def __str__(self) -> str:
        words = [f"scope {self.scope}"] if self.scope else []
        words += [f"role {self.role.word}"] if self.role else []
        return " or ".join(words) or "nothing that anybody has"


FREE = Need(free=True)
BY_ID = Need(free=True)
"""The session's id in the path is what it takes."""
DENIED = Need()
TALK, PUSH = Need(scope=Scope.TALK), Need(scope=Scope.PUSH)
VIEWER, OPERATOR, ADMIN = Need(Role.VIEWER), Need(Role.OPERATOR), Need(Role.ADMIN)
TALK_OR_VIEWER, TALK_OR_OPERATOR = Need(Role.VIEWER, Scope.TALK), Need(Role.OPERATOR, Scope.TALK)
PUSH_OR_OPERATOR = Need(Role.OPERATOR, Scope.PUSH)

RPCS: Mapping[str, Need] = {
    "/talkmesh.conversation.v1.ConversationService/Converse": TALK,
    "/talkmesh.conversation.v1.ConversationService/GetStatus": VIEWER,
    "/talkmesh.conversation.v1.ConversationService/SendFeedback": TALK,
    "/talkmesh.live.v1.LiveService/OpenSession": TALK,
    "/talkmesh.live.v1.LiveService/CloseSession": TALK_OR_OPERATOR,
    "/talkmesh.live.v1.LiveService/ListSessions": OPERATOR,
    "/talkmesh.live.v1.LiveService/Say": TALK,
    "/talkmesh.live.v1.LiveService/Ask": TALK,
    "/talkmesh.live.v1.LiveService/StartPush": PUSH,
    "/talkmesh.live.v1.LiveService/StopPush": PUSH_OR_OPERATOR,
    "/talkmesh.live.v1.LiveService/ListPushes": PUSH_OR_OPERATOR,
    "/talkmesh.admin.v1.AdminService/ListCatalog": VIEWER,
    "/talkmesh.admin.v1.AdminService/ListHistory": VIEWER,
    "/talkmesh.admin.v1.AdminService/ListFlags": VIEWER,
    "/talkmesh.admin.v1.AdminService/Decide": VIEWER,
    "/talkmesh.admin.v1.AdminService/WatchMesh": VIEWER,
    "/talkmesh.admin.v1.AdminService/ListVerdicts": VIEWER,
    "/talkmesh.admin.v1.AdminService/ListAudit": VIEWER,
    "/talkmesh.admin.v1.AdminService/GetResults": VIEWER,
    "/talkmesh.admin.v1.AdminService/SetSlot": OPERATOR,
    "/talkmesh.admin.v1.AdminService/RollBack": OPERATOR,
    "/talkmesh.admin.v1.AdminService/SetVeto": OPERATOR,
    "/talkmesh.admin.v1.AdminService/Evict": OPERATOR,
    "/talkmesh.admin.v1.AdminService/Preload": OPERATOR,
    "/talkmesh.admin.v1.AdminService/SetFlag": OPERATOR,
    "/talkmesh.admin.v1.AdminService/DeleteFlag": OPERATOR,
    "/talkmesh.admin.v1.AdminService/Promote": OPERATOR,
    "/talkmesh.admin.v1.AdminService/CreateKey": ADMIN,
    "/talkmesh.admin.v1.AdminService/ListKeys": ADMIN,
    "/talkmesh.admin.v1.AdminService/RevokeKey": ADMIN,
}
FREE_SERVICES = ("/grpc.health.v1.", "/grpc.reflection.")

ROUTES: Mapping[tuple[str, str], Need] = {
    ("GET", "/"): FREE,
    ("GET", "/openapi.json"): FREE,
    ("GET", "/api/config"): FREE,
    ("POST", "/api/sessions"): TALK,
    ("POST", "/api/admin/decide"): VIEWER,
    ("GET", "/api/sessions"): OPERATOR,
    ("GET", "/api/sessions/{session_id}"): TALK_OR_OPERATOR,
    ("DELETE", "/api/sessions/{session_id}"): TALK_OR_OPERATOR,
    ("POST", "/api/sessions/{session_id}/say"): TALK,
    ("POST", "/api/sessions/{session_id}/ask"): TALK,
    ("POST", "/api/sessions/{session_id}/interrupt"): TALK,
    ("POST", "/api/sessions/{session_id}/feedback"): TALK,
    ("POST", "/api/sessions/{session_id}/pushes"): PUSH,
    ("GET", "/api/sessions/{session_id}/pushes"): PUSH_OR_OPERATOR,
    ("DELETE", "/api/sessions/{session_id}/pushes/{push_id}"): PUSH_OR_OPERATOR,
    ("GET", "/live/{session_id}/stream.mp4"): BY_ID,
    ("GET", "/live/{session_id}/index.m3u8"): BY_ID,
    ("GET", "/live/{session_id}/{name}"): BY_ID,
    ("POST", "/whip"): TALK,
    ("POST", "/whep/{session_id}"): TALK,
    ("PATCH", "/whip/{session_id}/{peer_id}"): TALK,
    ("DELETE", "/whip/{session_id}/{peer_id}"): TALK,
    ("PATCH", "/whep/{session_id}/{peer_id}"): TALK,
    ("DELETE", "/whep/{session_id}/{peer_id}"): TALK,
}
READS = ("GET", "HEAD")
PREFIXES: tuple[tuple[str, Need, Need], ...] = (
    ("/static/", FREE, DENIED),
    ("/api/admin/keys", ADMIN, ADMIN),
    ("/api/admin/", VIEWER, OPERATOR),
    ("/ofrep/v1/", TALK_OR_VIEWER, TALK_OR_VIEWER),
)
"""Paths that begin so: what it takes to read, and to do all else. The first that fits counts, before all of the above."""
LINES = tuple(
    (method, re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path))), need)
    for (method, path), need in ROUTES.items()
)


def of_rpc(method: str) -> Need:
    """What "/package.Service/Method" needs."""
    return FREE if method.startswith(FREE_SERVICES) else RPCS.get(method, DENIED)


def of_route(method: str, path: str) -> Need:
    """What a request needs. `path`: as it is asked for, decoded. No path fits two lines that need different things."""
    reads = method in READS
    for prefix, to_read, to_change in PREFIXES:
        if path.startswith(prefix):
            return to_read if reads else to_change
    named = "GET" if reads else method
    return next((need for kind, fits, need in LINES if kind == named and fits.fullmatch(path)), DENIED)
