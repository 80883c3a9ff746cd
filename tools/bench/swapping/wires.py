"""How a paced stream is spoken: the service's own protocol, and that of the peers (V2, the Open Inference Protocol)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from talkmesh.llm.v1 import llm_pb2
from tools.bench.peers import inference

PAYLOAD = "x" * 1280
"""As many bytes as 40 ms of speech at 16 kHz has."""


@dataclass(frozen=True)
class Start:
    """The first response of a stream."""

    model: str
    generation: int


@dataclass(frozen=True)
class Chunk:
    """One paced response: the name of the model that made it, in which process, and its number in the stream."""

    model: str
    process: str
    number: int


@dataclass(frozen=True)
class Wire:
    """One protocol."""

    method: str
    opening: Any
    """The message that opens a stream and is answered by a Start; None where there is no such thing."""
    request: Any
    """What asks for one chunk."""
    serialize: Callable[[Any], bytes]
    deserialize: Callable[[bytes], Any]
    told: Callable[[Any], Start | Chunk]


def chunk(text: str) -> Chunk:
    """A chunk from "MODEL/PROCESS NUMBER"."""
    maker, _, number = text.partition(" ")
    model, _, process = maker.partition("/")
    return Chunk(model, process, int(number))


def told_by_llm(response: llm_pb2.GenerateResponse) -> Start | Chunk:
    if response.WhichOneof("response") == "started":
        return Start(response.started.model.model, response.started.model.slot_generation)
    return chunk(response.delta.text)


def llm() -> Wire:
    message = llm_pb2.Message(role=llm_pb2.ROLE_USER, content=PAYLOAD)
    return Wire(
        method="/talkmesh.llm.v1.LlmService/Generate",
        opening=llm_pb2.GenerateRequest(config=llm_pb2.GenerationConfig()),
        request=llm_pb2.GenerateRequest(prompt=llm_pb2.Prompt(messages=[message])),
        serialize=llm_pb2.GenerateRequest.SerializeToString,
        deserialize=llm_pb2.GenerateResponse.FromString,
        told=told_by_llm,
    )


def v2() -> Wire:
    return Wire(
        method=inference.STREAM_METHOD,
        opening=None,
        request=inference.request(inference.MODEL, PAYLOAD.encode()),
        serialize=inference.InferRequest.SerializeToString,
        deserialize=inference.InferResponse.FromString,
        told=lambda response: chunk(inference.text(response)),
    )


WIRES: Mapping[str, Callable[[], Wire]] = {"llm": llm, "v2": v2}
