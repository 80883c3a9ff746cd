"""What a stream sees of the host between it and the engine process: nothing."""

import asyncio
import json
import os
from typing import Any

import grpc
import psutil
import pytest
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from services.runtime.engine import GENERATION_KEY, SLOT_KEY
from services.runtime.processor import place
from talkmesh.llm.v1 import llm_pb2
from talkmesh.model.v1 import model_pb2, model_pb2_grpc
from tests.fakes.echo import RETRY_AFTER_S
from tests.fakes.hosts import SERVICE_NAME, Host, detail, running

pytestmark = pytest.mark.mesh


async def test_messages_metadata_half_close_and_ok_pass(host: Host) -> None:
    talk = host.talk()
    started = await talk.start()
    assert (started.model.service, started.model.model, started.model.engine) == ("echo", "parrot", "echo")
    assert (started.model.slot, started.model.slot_generation) == ("stable", 1)
    assert dict(await talk.call.initial_metadata())["echo-initial"] == "seen"
    for text in ("one", "", "drei ✓"):
        await talk.say(text)
        assert await talk.hear() == text
    await talk.finish()
    trailing = dict(await talk.call.trailing_metadata())
    assert (trailing["echo-trailer"], trailing["echo-trailer-bin"]) == ("seen", b"\x00\xff")


async def test_a_message_beyond_grpcs_default_limit_passes(host: Host) -> None:
    text = "x" * (6 * 1024 * 1024)
    assert await host.ask(text) == text


async def test_the_callers_metadata_passes_but_cannot_name_a_slot(host: Host) -> None:
    forged = ((SLOT_KEY, "forged"), (GENERATION_KEY, "99"), ("traceparent", "00-ab"), ("tag-bin", b"\x01"))
    talk = host.talk(metadata=forged)
    started = await talk.start()
    assert (started.model.slot, started.model.slot_generation) == ("stable", 1)
    await talk.say("metadata")
    seen = [tuple(pair) for pair in json.loads(await talk.hear())]
    assert ("traceparent", "00-ab") in seen
    assert ("tag-bin", str(b"\x01")) in seen
    assert [value for key, value in seen if key == SLOT_KEY] == ["stable"]
    assert [value for key, value in seen if key == GENERATION_KEY] == ["1"]
    await talk.finish()


async def test_domain_errors_pass_with_their_details(host: Host) -> None:
    talk = host.talk()
    await talk.start()
    await talk.say("refuse")
    error = await talk.failure()
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert detail(error, error_details_pb2.BadRequest).field_violations[0].field == "prompt.text"
    assert detail(error, error_details_pb2.ErrorInfo).reason == "INVALID_INPUT"


async def test_an_engines_own_unavailable_is_not_taken_for_its_death(host: Host) -> None:
    talk = host.talk()
    await talk.start()
    await talk.say("unavailable")
    error = await talk.failure()
    assert (error.code(), error.details()) == (grpc.StatusCode.UNAVAILABLE, "resting")
    assert detail(error, error_details_pb2.RetryInfo).retry_delay.seconds == RETRY_AFTER_S


async def test_a_defect_is_told_without_internals_and_logged_with_them() -> None:
    async with running(clean=False) as host:
        talk = host.talk()
        await talk.start()
        await talk.say("unknown")
        error = await talk.failure()
        assert error.code() is grpc.StatusCode.INTERNAL
        assert "secret" not in (error.details() or "")
        await host.logged("ZeroDivisionError: secret")


async def test_a_config_of_the_wrong_kind_is_refused_by_the_engine(host: Host) -> None:
    talk = host.talk()
    await talk.say("no config before")
    error = await talk.failure()
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "config" in (error.details() or "")


async def test_an_unknown_method_is_unimplemented(host: Host) -> None:
    call: Any = host.channel.unary_unary(f"/{SERVICE_NAME}/Nothing")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_twenty_streams_at_once_are_isolated(host: Host) -> None:
    async def converse(name: int) -> None:
        talk = host.talk()
        await talk.start()
        for turn in range(20):
            await talk.say(f"{name}/{turn}")
            assert await talk.hear() == f"{name}/{turn}"
        if name % 5 == 0:
            talk.call.cancel()
        elif name % 5 == 1:
            await talk.say("refuse")
            assert (await talk.failure()).code() is grpc.StatusCode.INVALID_ARGUMENT
        else:
            await talk.say("repeat 20 5")
            assert [await talk.hear() for _ in range(20)] == [str(index) for index in range(20)]
            await talk.finish()

    await asyncio.gather(*(converse(name) for name in range(20)))
    assert (await host.model()).restarts == 0


async def test_reflection_lists_the_service_and_knows_its_messages(host: Host) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(host.channel)
    request = reflection_pb2.ServerReflectionRequest
    answers = stub.ServerReflectionInfo(
        iter([request(list_services=""), request(file_containing_symbol=llm_pb2.Prompt.DESCRIPTOR.full_name)])
    )
    listed, described = [answer async for answer in answers]
    names = {service.name for service in listed.list_services_response.service}
    assert {SERVICE_NAME, "talkmesh.model.v1.ModelService", "grpc.health.v1.Health"} <= names
    assert described.file_descriptor_response.file_descriptor_proto


async def test_an_engine_process_does_not_spin_for_its_neighbours_cores(host: Host) -> None:
    environment = psutil.Process((await host.model()).pid).environ()
    assert environment["OPENBLAS_NUM_THREADS"] == os.environ.get("OPENBLAS_NUM_THREADS", "1")


async def test_a_host_tells_what_it_takes_of_which_machine(host: Host) -> None:
    models: model_pb2_grpc.ModelServiceAsyncStub = model_pb2_grpc.ModelServiceStub(host.channel)
    async for told in models.WatchModels(model_pb2.WatchModelsRequest()):
        processor = told.host.processor
        break
    assert (processor.machine, processor.cores) == place()
    assert 0 <= processor.used <= processor.cores
