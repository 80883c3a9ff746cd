"""etcd's messages and statuses as this project's own words, and back."""

from collections.abc import Iterable

import grpc

from services.runtime.etcd_types import (
    Compare,
    EtcdAway,
    EtcdForbidden,
    EtcdFull,
    EtcdRefused,
    Event,
    Get,
    Keys,
    KeyValue,
    Operation,
    Put,
    Span,
)
from services.runtime.etcdpb import kv_pb2, rpc_pb2

EVERYTHING = b"\0"
TARGETS = {
    "version": rpc_pb2.Compare.VERSION,
    "create_revision": rpc_pb2.Compare.CREATE,
    "mod_revision": rpc_pb2.Compare.MOD,
    "lease": rpc_pb2.Compare.LEASE,
    "value": rpc_pb2.Compare.VALUE,
}
RELATIONS = {
    "=": rpc_pb2.Compare.EQUAL,
    "!=": rpc_pb2.Compare.NOT_EQUAL,
    ">": rpc_pb2.Compare.GREATER,
    "<": rpc_pb2.Compare.LESS,
}
# The statuses with which etcd says no, and has done nothing. Any other one may come after it has: "context deadline
# exceeded" is sent as UNKNOWN, for one.
REFUSALS = (
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.DATA_LOSS,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.UNIMPLEMENTED,
)
# What etcd says, in words rather than in its status, when a token is not good (any more) but a new one may be.
TOKEN_TROUBLE = ("invalid auth token", "revision of auth store is old", "user name is empty")


def range_of(key: Keys, prefix: bool) -> tuple[bytes, bytes]:
    """etcd's key and range_end of a span, of one key, or of everything below a prefix; the prefix "" is all there is."""
    if isinstance(key, Span):
        return key.start.encode(), key.end.encode()
    start = key.encode()
    if not prefix:
        return start, b""
    if not start:
        return EVERYTHING, EVERYTHING
    # UTF-8 has no byte 0xFF, so the last one can always be raised.
    return start, start[:-1] + bytes([start[-1] + 1])


def key_value(stored: kv_pb2.KeyValue) -> KeyValue:
    return KeyValue(
        # Two keys must stay two, however broken they are; a value need only be seen to be broken.
        key=stored.key.decode(errors="backslashreplace"),
        value=stored.value.decode(errors="replace"),
        create_revision=stored.create_revision,
        mod_revision=stored.mod_revision,
        version=stored.version,
        lease=stored.lease,
    )


def key_values(found: Iterable[kv_pb2.KeyValue]) -> tuple[KeyValue, ...]:
    return tuple(map(key_value, found))


def event(sent: kv_pb2.Event, previous: KeyValue | None) -> Event:
    return Event(key_value(sent.kv), sent.type == kv_pb2.Event.DELETE, previous)


def comparison(wanted: Compare) -> rpc_pb2.Compare:
    made = rpc_pb2.Compare(
        result=RELATIONS[wanted.relation], target=TARGETS[wanted.what], key=wanted.key.encode(), version=wanted.number
    )
    # The number's field is in a oneof: setting another one takes the place of the version.
    match wanted.what:
        case "create_revision":
            made.create_revision = wanted.number
        case "mod_revision":
            made.mod_revision = wanted.number
        case "lease":
            made.lease = wanted.number
        case "value":
            made.value = wanted.text.encode()
    return made


def put_request(key: str, value: str, lease: int) -> rpc_pb2.PutRequest:
    return rpc_pb2.PutRequest(key=key.encode(), value=value.encode(), lease=lease)


def operation(wanted: Operation) -> rpc_pb2.RequestOp:
    if isinstance(wanted, Put):
        return rpc_pb2.RequestOp(request_put=put_request(wanted.key, wanted.value, wanted.lease))
    key, end = range_of(wanted.key, wanted.prefix)
    if isinstance(wanted, Get):
        return rpc_pb2.RequestOp(request_range=rpc_pb2.RangeRequest(key=key, range_end=end))
    return rpc_pb2.RequestOp(request_delete_range=rpc_pb2.DeleteRangeRequest(key=key, range_end=end))


def wants_new_token(error: grpc.aio.AioRpcError) -> bool:
    """Whether the call was refused, before anything was done, for a token that has expired or is missing."""
    said = error.details() or ""
    return error.code() is grpc.StatusCode.UNAUTHENTICATED or any(words in said for words in TOKEN_TROUBLE)


def domain_error(error: grpc.aio.AioRpcError, what: str, writes: bool) -> EtcdAway | EtcdRefused:
    """What went wrong with `what`, for a person: "put of '/a'"."""
    code, said = error.code(), (error.details() or "no reason given").removeprefix("etcdserver: ")
    if code not in REFUSALS or "too many requests" in said:
        return EtcdAway(f"{what}: etcd does not answer ({code.name}: {said})", maybe_applied=writes)
    message = f"{what}: etcd refuses: {said}"
    if "space exceeded" in said:
        return EtcdFull(message)
    if code in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED) or is_about_access(said):
        return EtcdForbidden(message)
    return EtcdRefused(message)


def is_about_access(said: str) -> bool:
    """Whether etcd's words are about who we are; its status for these is often INVALID_ARGUMENT."""
    return "permission denied" in said or "authentication failed" in said or any(each in said for each in TOKEN_TROUBLE)
