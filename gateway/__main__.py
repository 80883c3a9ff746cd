"""The gateway: `python -m gateway --listen … --asr … --llm … --tts … --animation … --render …`."""

import asyncio
import contextlib
import logging
import sys
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext
from typing import TYPE_CHECKING

import grpc

from gateway.access.access import gated
from gateway.access.grpc_gate import GrpcGate
from gateway.admin import ADMIN_SERVICE, administered
from gateway.http.hosted import hosting
from gateway.live.sessions import live_sessions
from gateway.live_servicer import LIVE_SERVICE, LiveServicer
from gateway.mesh import Mesh, connected
from gateway.metrics import Metrics, exposed
from gateway.outcomes.observer import Observer
from gateway.outcomes.ratings import Ratings
from gateway.outputs.outputs import outputs
from gateway.servicer import ConversationServicer
from gateway.sessions import Sessions
from gateway.settings import GatewaySettings, gateway_settings
from services.runtime import lifeline, tracing
from services.runtime.errors import InvalidInput
from services.runtime.etcd import connected as etcd_connected
from services.runtime.host import keeping, leaves
from services.runtime.serve import HealthReport, PortTaken, listening, two_stage_exit
from services.runtime.telemetry import start_logging
from talkmesh.admin.v1 import admin_pb2_grpc
from talkmesh.conversation.v1 import conversation_pb2, conversation_pb2_grpc
from talkmesh.live.v1 import live_pb2_grpc

if TYPE_CHECKING:
    from gateway.outcomes.outcomes import Outcomes

CONVERSATION_SERVICE = conversation_pb2.DESCRIPTOR.services_by_name["ConversationService"].full_name
FOUND_S = 5.0


async def serve(settings: GatewaySettings) -> None:
    """Serve until told to stop. Raises PortTaken, and InvalidInput for a way to etcd that cannot work."""
    sessions, metrics = Sessions(settings.max_sessions, settings.keep_session_s), Metrics()
    async with AsyncExitStack() as stack:
        drain = await stack.enter_async_context(two_stage_exit())
        await stack.enter_async_context(tracing.exported("gateway"))
        if settings.metrics:
            await stack.enter_async_context(exposed(settings.metrics, metrics))
        access = settings.etcd_access()
        etcd = await stack.enter_async_context(etcd_connected(access)) if access else None
        gate = await stack.enter_async_context(gated(settings, etcd))
        mesh = await stack.enter_async_context(connected(settings.places, etcd, metrics))
        kept = await stack.enter_async_context(kept_as_told(settings, metrics))
        observer = Observer(metrics, mesh.guard, mesh.experiments, kept.keeps if kept else None)
        ratings = Ratings(sessions.find, metrics, kept)
        live = await stack.enter_async_context(live_sessions(mesh, sessions, settings, observer))
        hosted = await stack.enter_async_context(hosting(live))
        hosts = [host for host in settings.push_hosts.split(",") if host]
        out = await stack.enter_async_context(outputs(live, hosts, settings.max_pushes))
        admin = await stack.enter_async_context(administered(etcd, drain, mesh.flags, mesh.shadows, kept))
        if settings.http:
            from gateway.front import fronted

            await stack.enter_async_context(fronted(settings, mesh, live, hosted, out, ratings, admin.of, gate))

        def attach(server: grpc.aio.Server) -> None:
            servicer = ConversationServicer(mesh, sessions, live, settings, observer, ratings)
            conversation_pb2_grpc.add_ConversationServiceServicer_to_server(servicer, server)
            live_pb2_grpc.add_LiveServiceServicer_to_server(LiveServicer(live, hosted, out.pushes), server)
            admin_pb2_grpc.add_AdminServiceServicer_to_server(admin, server)

        names = (CONVERSATION_SERVICE, ADMIN_SERVICE, LIVE_SERVICE)
        at = listening(settings.listen, names, attach, settings.grace_s, (GrpcGate(gate),))
        _, health = await stack.enter_async_context(at)
        await stack.enter_async_context(keeping(begin(mesh, health)))
        await drain.wait()


def kept_as_told(settings: GatewaySettings, metrics: Metrics) -> AbstractAsyncContextManager["Outcomes | None"]:
    """What keeps outcomes, if any are to be kept."""
    if settings.outcomes_folder is None:
        return nullcontext()
    from gateway.outcomes.outcomes import keeping

    return keeping(settings, metrics.registry)


async def begin(mesh: Mesh, health: HealthReport) -> None:
    """Say SERVING when all services are there, or soon at any rate: each call tells for itself what is missing."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(mesh.found(), FOUND_S)
    await health.say(serving=True)


def main() -> None:
    settings = gateway_settings()
    lifeline.die_with_parent_if_asked()
    start_logging("gateway", settings.log_level)
    try:
        asyncio.run(serve(settings))
    except* (PortTaken, InvalidInput) as group:
        for error in leaves(group):
            logging.getLogger("gateway").error("%s", error)
        sys.exit(2)


if __name__ == "__main__":
    main()
