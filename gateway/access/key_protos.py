"""Keys on the wire: everything but their secrets and hashes."""

from gateway.access.key_control import Wanted
from gateway.access.keys import Key
from talkmesh.admin.v1 import admin_pb2


def key_proto(id_: str, key: Key) -> admin_pb2.Key:
    return admin_pb2.Key(
        id=id_,
        name=key.name,
        role="" if key.role == "none" else key.role,
        scopes=key.scopes,
        requests_per_s=key.requests_per_s,
        burst=key.burst,
        sessions=key.sessions,
        created_ms=key.created_ms,
        created_by=key.created_by,
        expires_ms=key.expires_ms,
        revoked_ms=key.revoked_ms,
        revoked_by=key.revoked_by,
    )


def wanted_of(request: admin_pb2.CreateKeyRequest) -> Wanted:
    return Wanted(
        name=request.name,
        role=request.role,
        scopes=tuple(request.scopes),
        expires_in_s=request.expires_in_s,
        requests_per_s=request.requests_per_s,
        burst=request.burst,
        sessions=request.sessions,
    )
