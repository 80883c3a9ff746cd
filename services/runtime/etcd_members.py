"""The members of an etcd cluster: channels to each, who we are to them, and which one to ask next."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import grpc

from services.runtime.channels import DIRECT
from services.runtime.errors import InvalidInput
from services.runtime.etcd_types import EtcdAway, EtcdRefused, EtcdSettings
from services.runtime.etcd_wire import domain_error, wants_new_token
from services.runtime.etcdpb import rpc_pb2, rpc_pb2_grpc

OPTIONS: tuple[tuple[str, int], ...] = (
    *DIRECT,
    # etcd takes a ping every 5 s as an attack, so this is nearly the least; a frozen member is given up after 8 s.
    ("grpc.keepalive_time_ms", 6_000),
    ("grpc.keepalive_timeout_ms", 2_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.bdp_probe", 0),
    # A member that was restarted is found again at once. The second is also the time that making a connection may take.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Backoff and connection are this client's own, not shared with whoever else of this process speaks to etcd.
    ("grpc.use_local_subchannel_pool", 1),
    # A listing is as large as it is; etcd itself bounds what can be written.
    ("grpc.max_receive_message_length", -1),
)
LOOK_S = (0.01, 0.1)
PAUSE_S = 0.05
LEAST_S = 0.1

Request = TypeVar("Request")
Response = TypeVar("Response")
Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Member:
    """One member of the cluster."""

    endpoint: str
    channel: grpc.aio.Channel
    kv: "rpc_pb2_grpc.KVAsyncStub"
    watch: "rpc_pb2_grpc.WatchAsyncStub"
    lease: "rpc_pb2_grpc.LeaseAsyncStub"
    maintenance: "rpc_pb2_grpc.MaintenanceAsyncStub"
    auth: "rpc_pb2_grpc.AuthAsyncStub"

    def is_ready(self) -> bool:
        """Whether it is connected; if not, it is being tried from now on."""
        return self.channel.get_state(try_to_connect=True) is grpc.ChannelConnectivity.READY


def member(endpoint: str, channel: grpc.aio.Channel) -> Member:
    return Member(
        endpoint,
        channel,
        rpc_pb2_grpc.KVStub(channel),
        rpc_pb2_grpc.WatchStub(channel),
        rpc_pb2_grpc.LeaseStub(channel),
        rpc_pb2_grpc.MaintenanceStub(channel),
        rpc_pb2_grpc.AuthStub(channel),
    )


Method = Callable[[Member], "grpc.aio.UnaryUnaryMultiCallable[Request, Response]"]


class Members:
    """Sends calls to a member that is connected. Use `reached`."""

    def __init__(self, settings: EtcdSettings, members: tuple[Member, ...]) -> None:
        self._settings = settings
        self._members = members
        self._preferred = 0
        self._token = ""
        self._login = asyncio.Lock()
        self._closed = False

    async def read(self, method: "Method[Request, Response]", request: Request, what: str) -> Response:
        """Ask until somebody answers or the time is up. Raises EtcdAway and EtcdRefused."""
        deadline = self._deadline()
        while True:
            left = deadline - time.monotonic()
            share = max(LEAST_S, min(left, self._settings.timeout_s / len(self._members)))
            member = await self.ready(deadline)
            try:
                return await self._call(member, method, request, share)
            except grpc.aio.AioRpcError as error:
                trouble = domain_error(error, what, writes=False)
                if isinstance(trouble, EtcdRefused):
                    raise trouble from None
                self.distrust(member)
                if deadline - time.monotonic() < LEAST_S:
                    raise trouble from None
            await asyncio.sleep(PAUSE_S)

    async def write(self, method: "Method[Request, Response]", request: Request, what: str) -> Response:
        """Send once, to a member that is connected.

        It is not sent a second time: of a call that broke off nobody can say whether it was applied. Raises EtcdAway, whose
        `maybe_applied` tells whether it was sent at all, and EtcdRefused.
        """
        deadline = self._deadline()
        member = await self.ready(deadline)
        try:
            return await self._call(member, method, request, max(LEAST_S, deadline - time.monotonic()))
        except grpc.aio.AioRpcError as error:
            trouble = domain_error(error, what, writes=True)
            if isinstance(trouble, EtcdAway):
                self.distrust(member)
            raise trouble from None

    async def ready(self, deadline: float | None = None) -> Member:
        """A member that is connected, the last good one if it can be had. Raises EtcdAway, RuntimeError after the end."""
        deadline = self._deadline() if deadline is None else deadline
        wait, longest = LOOK_S
        while True:
            if self._closed:
                raise RuntimeError("this client of etcd is closed")
            order = self._members[self._preferred :] + self._members[: self._preferred]
            # Not `any` of a generator that stops early: the others are to connect in the meantime.
            if ready := [member for member in order if member.is_ready()]:
                return ready[0]
            if time.monotonic() + wait > deadline:
                why = await self._reason(order[0])
                raise EtcdAway(f"no etcd can be reached at {', '.join(self._settings.endpoints)}: {why}")
            await asyncio.sleep(wait)
            wait = min(wait * 1.5, longest)

    async def _reason(self, member: Member) -> str:
        """Why a member is not connected; only a call that fails for it can tell."""
        try:
            await member.maintenance.Status(rpc_pb2.StatusRequest(), timeout=LEAST_S)
        except grpc.aio.AioRpcError as error:
            return error.details() or error.code().name
        return "it was not there in time"

    def distrust(self, member: Member) -> None:
        """Ask another one next time."""
        if self._members[self._preferred] is member:
            self._preferred = (self._preferred + 1) % len(self._members)

    async def metadata(self, member: Member) -> Metadata:
        """What goes with every call, for those that are made without `read` and `write`. Raises EtcdAway and EtcdRefused."""
        try:
            return self._metadata(await self._known_as(member, self._settings.timeout_s))
        except grpc.aio.AioRpcError as error:
            raise domain_error(error, self._who(), writes=False) from None

    def close(self) -> None:
        """Make no more calls."""
        self._closed = True

    def forget_token(self) -> None:
        """Say who we are again before the next call."""
        self._token = ""

    async def _call(
        self, member: Member, method: "Method[Request, Response]", request: Request, timeout_s: float
    ) -> Response:
        deadline = time.monotonic() + timeout_s
        token = await self._known_as(member, timeout_s)
        try:
            return await method(member)(request, timeout=timeout_s, metadata=self._metadata(token))
        except grpc.aio.AioRpcError as error:
            if not self._settings.user or not wants_new_token(error):
                raise
        if self._token == token:
            self._token = ""
        left = max(LEAST_S, deadline - time.monotonic())
        token = await self._known_as(member, left)
        return await method(member)(request, timeout=left, metadata=self._metadata(token))

    async def _known_as(self, member: Member, timeout_s: float) -> str:
        """The token to show; "" without a user, or as long as etcd does not ask for one."""
        user = self._settings.user
        if not user:
            return ""
        async with self._login:
            if not self._token:
                password = self._settings.password.get_secret_value()
                request = rpc_pb2.AuthenticateRequest(name=user, password=password)
                try:
                    self._token = (await member.auth.Authenticate(request, timeout=timeout_s)).token
                except grpc.aio.AioRpcError as error:
                    if "authentication is not enabled" not in (error.details() or ""):
                        raise
            return self._token

    def _metadata(self, token: str) -> Metadata:
        return (("token", token),) if token else ()

    def _who(self) -> str:
        return f"user {self._settings.user!r}"

    def _deadline(self) -> float:
        return time.monotonic() + self._settings.timeout_s


@asynccontextmanager
async def reached(settings: EtcdSettings) -> AsyncIterator[Members]:
    """Channels to every member; nobody need be there yet. Raises InvalidInput when a file of the settings cannot be read."""
    credentials = tls_credentials(settings)
    async with AsyncExitStack() as stack:
        found = []
        for endpoint in settings.endpoints:
            channel = (
                grpc.aio.secure_channel(endpoint, credentials, options=OPTIONS)
                if credentials
                else grpc.aio.insecure_channel(endpoint, options=OPTIONS)
            )
            found.append(member(endpoint, await stack.enter_async_context(channel)))
        members = Members(settings, tuple(found))
        stack.callback(members.close)
        yield members


def tls_credentials(settings: EtcdSettings) -> grpc.ChannelCredentials | None:
    """None for plaintext. Raises InvalidInput."""
    if not settings.ca:
        return None
    return grpc.ssl_channel_credentials(
        pem("ca", settings.ca),
        pem("key", settings.key) if settings.key else None,
        pem("cert", settings.cert) if settings.cert else None,
    )


def pem(name: str, path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"etcd.{name}", f"{path}: {error.strerror}") from error
    if b"-----BEGIN" not in content:
        raise InvalidInput(f"etcd.{name}", f"{path} is no PEM file")
    return content
