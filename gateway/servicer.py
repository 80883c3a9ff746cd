"""ConversationService on the wire."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import grpc

from gateway.audience import Audience
from gateway.conversation import converse
from gateway.experiments.sessions import given
from gateway.live.call import converse_live
from gateway.live.sessions import LiveSessions
from gateway.mesh import Mesh, ServiceFailed
from gateway.metrics import Metrics
from gateway.outcomes.observer import Observer
from gateway.outcomes.ratings import Ratings
from gateway.sessions import Session, Sessions
from gateway.settings import GatewaySettings
from gateway.wishes import Wishes
from services.runtime import statuses
from services.runtime.errors import DomainError, Unavailable, first_of
from services.runtime.forwarding import passed_on
from services.runtime.streams import config_and_data
from talkmesh.conversation.v1 import conversation_pb2, conversation_pb2_grpc
from talkmesh.outcomes import DETAILS_KEY

log = logging.getLogger(__name__)
LEFT = "CANCELLED"
Context = grpc.aio.ServicerContext[Any, conversation_pb2.ConverseResponse]


class ClientGone(Exception):
    """The client does not listen any more."""


class ConversationServicer(conversation_pb2_grpc.ConversationServiceServicer):
    """Turns calls into conversations, and their failures into statuses."""

    def __init__(
        self,
        mesh: Mesh,
        sessions: Sessions,
        live: LiveSessions,
        settings: GatewaySettings,
        observer: Observer,
        ratings: Ratings,
    ) -> None:
        self._mesh = mesh
        self._observer = observer
        self._ratings = ratings
        self._live = live
        self._sessions = sessions
        self._settings = settings

    # The stubs know generators only; writing from several tasks needs the other, equally supported, form.
    async def Converse(  # type: ignore[override]  # stubs know only the synchronous kind
        self, request_iterator: AsyncIterator[conversation_pb2.ConverseRequest], context: Context
    ) -> None:
        ended = "UNKNOWN"
        try:
            ended = await self._ended(request_iterator, context)
        except asyncio.CancelledError:
            ended = LEFT
            raise
        finally:
            self._mesh.metrics.call_ended(aborted_as(context) or ended)

    async def _ended(self, requests: AsyncIterator[conversation_pb2.ConverseRequest], context: Context) -> str:
        """Serve a call; how it ended, if not by a status of ours."""
        try:
            await self._converse(requests, context)
        except DomainError as error:
            await end_with(context, error)
        except ClientGone:
            log.info("a client vanished")
            return LEFT
        except BaseExceptionGroup as group:
            await self._end_with_first(context, group)
            return LEFT
        return "OK"

    async def _end_with_first(self, context: Context, group: BaseExceptionGroup[BaseException]) -> None:
        """End the call with the failure that came first of a group. Raises what is neither failure nor a lost client."""
        gone, rest = group.split(ClientGone)
        if gone:
            log.info("a client vanished")
            return
        failures, others = rest.split(DomainError) if rest else (None, None)
        if failures is None or others is not None:
            raise group
        await end_with(context, first_of(failures))

    async def _converse(self, requests: AsyncIterator[conversation_pb2.ConverseRequest], context: Context) -> None:
        first, data = await config_and_data(requests, conversation_pb2.ConversationConfig)
        lock = asyncio.Lock()

        async def write(event: conversation_pb2.ConverseResponse) -> None:
            async with lock:
                try:
                    await context.write(event)
                except grpc.aio.InternalError as error:
                    raise ClientGone from error

        if first.config.HasField("live"):
            async with self._live.attached(first.config) as running:
                await converse_live(running, first.config.outputs, data, write)
            return
        async with self._sessions.held(first.config.session_id) as session:
            wishes = Wishes(first.config, self._settings)
            assigned = given(session, first.config.who, self._mesh.experiments)
            self._observer.opened(session, first.config.who)

            async def count(event: conversation_pb2.ConverseResponse) -> None:
                # First: whoever has heard of a turn's end may leave before we come to it.
                if event.HasField("done"):
                    self._observer.ended(session, event.turn_id, event.done)
                await write(event)

            audience = Audience(wishes, session, count)
            with self._live.reckoned(session.id), counted(self._mesh.metrics, self._observer, session, audience):
                seats = self._mesh.seats_of(session, assigned, partial(self._observer.lost, session))
                await converse(seats, wishes, session, audience, data)

    async def GetStatus(
        self, request: conversation_pb2.GetStatusRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> conversation_pb2.GetStatusResponse:
        services = await self._mesh.status()
        return conversation_pb2.GetStatusResponse(services=services, sessions=self._sessions.in_use)

    @statuses.answered
    async def SendFeedback(
        self, request: conversation_pb2.SendFeedbackRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> conversation_pb2.SendFeedbackResponse:
        await self._ratings.take(request.session_id, request.score, request.turn_id, request.comment)
        return conversation_pb2.SendFeedbackResponse()


def aborted_as(context: Context) -> str:
    """The name of the status that a call was ended with; empty if it was not."""
    code: Any = context.code()
    return next((each.name for each in grpc.StatusCode if code in (each, each.value[0]) and each.value[0]), "")


@contextmanager
def counted(metrics: Metrics, observer: Observer, session: Session, audience: Audience) -> Iterator[None]:
    """Count a session in use, and tell of the turn that its call ends in the midst of."""
    metrics.sessions.inc()
    try:
        yield
    except BaseException as error:
        if audience.turn_id:
            observer.broken(session, audience.turn_id, is_abandoned(error))
        raise
    finally:
        metrics.sessions.dec()


def is_abandoned(error: BaseException) -> bool:
    """Whether it was the client who left."""
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup((ClientGone, asyncio.CancelledError)) is not None
    return isinstance(error, ClientGone | asyncio.CancelledError)


async def end_with(context: Context, error: DomainError) -> None:
    """End the call with the status of `error`; a service's own status is passed on with its details."""
    if not isinstance(error, ServiceFailed):
        await statuses.abort(context, error)
    ended = error.outcome
    trailing = passed_on(ended.trailing, DETAILS_KEY)
    if ended.code is grpc.StatusCode.UNAVAILABLE and DETAILS_KEY not in dict(trailing):
        await statuses.abort(context, Unavailable(str(error)))
    await context.abort(ended.code, str(error), trailing)
