"""What an engine is to the runtime, and what a service says of itself."""

import importlib
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import grpc
from pydantic import BaseModel, ConfigDict, Field, field_validator

from services.runtime.errors import NotFound
from services.runtime.interface import Interface
from talkmesh.model.v1 import model_pb2

SLOT_KEY = "talkmesh-slot"
GENERATION_KEY = "talkmesh-slot-generation"
WANTED_SLOT_KEY = "talkmesh-want-slot"
"""Metadata of a call: the slot that is to serve it, "stable" if left out."""
GoldenValue = str | tuple[float, float]
Measure = str | float


class ModelSpec(BaseModel):
    """A catalog entry: how to make one model of a service run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    engine: str
    source: str = Field(default="", description="see sources.resolve; empty for an engine without weights")
    sha256: str = Field(default="", description="of the source file, or of the folder as sources.digest defines it")
    options: dict[str, Any] = Field(default_factory=dict)
    interface: Interface | None = Field(
        default=None, description="what the engine must report; unset fields may be anything"
    )
    golden: dict[str, GoldenValue] = Field(
        default_factory=dict, description="what its service's golden input must measure: a text, or [least, most]"
    )
    preload: bool = Field(default=False, description="keep it warm before it is asked for")
    memory_limit_mb: int | None = Field(default=None, ge=1, description="its engine process is killed above this")
    load_timeout_s: float = Field(default=120.0, gt=0)
    warm_up_timeout_s: float = Field(default=60.0, gt=0, description="for validation and warm-up together")

    @field_validator("sha256")
    @classmethod
    def _hexadecimal(cls, value: str) -> str:
        if value and not re.fullmatch(r"[0-9a-f]{64}", value):
            raise ValueError("expected 64 hexadecimal digits in lower case")
        return value


class Engine(Protocol):
    """Code that infers with one model. Its own verb (`recognize`, `generate`, …) is in the service's `engine` module.

    An engine is made as `Engine(source, options)`: the resolved path of the weights (None without weights) and the catalog
    entry's options. It checks its options when it is made and raises InvalidInput naming the option.
    """

    async def load(self) -> None:
        """Make ready. Raises LoadFailed."""

    async def unload(self) -> None:
        """Give everything back. The engine is not used again."""


@dataclass(frozen=True)
class Identity:
    """Which model an engine process holds."""

    service: str
    model: str
    engine: str
    digest: str

    def serving(self, context: grpc.aio.ServicerContext[Any, Any]) -> model_pb2.ServingModel:
        """What to say in the first response of a stream. Slot and generation come from the host that forwarded the call."""
        metadata = dict(context.invocation_metadata() or ())
        return model_pb2.ServingModel(
            service=self.service,
            model=self.model,
            engine=self.engine,
            digest=self.digest,
            slot=str(metadata.get(SLOT_KEY, "")),
            slot_generation=int(metadata.get(GENERATION_KEY, "0")),
        )


@dataclass(frozen=True)
class Service:
    """One of the five. Each service's `servicer` module defines its own as SERVICE."""

    name: str
    grpc_name: str
    """Full name of its gRPC service."""
    engines: Mapping[str, str]
    """Engine name → "module:Class", imported in the engine process only."""
    attach: Callable[[grpc.aio.Server, Any, Identity], None]
    """Add the servicer for an engine to a server."""
    warm_up: Callable[[Any], Awaitable[None]]
    """Run an input through a loaded engine, so that the first user does not pay for first-time work."""
    interface: Callable[[Any], Interface] = lambda _: Interface()
    """What a loaded engine takes and gives."""
    measure: Callable[[Any], Awaitable[Mapping[str, Measure]]] | None = None
    """Run the service's golden input through a loaded engine and measure what comes back. Raises LoadFailed for an output
    that no sound model of this service gives; what the measures must be for one model is in its ModelSpec."""
    nice: int = 0
    """Of its engine processes while they serve: who may be late stands back behind those whose lateness is heard."""

    @property
    def module(self) -> str:
        """The module that defines this service: an engine process imports it by this name."""
        return self.attach.__module__

    def engine_path(self, spec: ModelSpec) -> str:
        """Where the engine of `spec` is defined, "module:Class". Raises NotFound for an unknown engine."""
        if spec.engine not in self.engines:
            raise NotFound(f"{self.name} engine", spec.engine, self.engines)
        return self.engines[spec.engine]

    def engine(self, spec: ModelSpec, source: Path | None) -> Any:
        """Make the engine of `spec`. Raises NotFound for an unknown engine and InvalidInput for a bad option."""
        module, _, name = self.engine_path(spec).partition(":")
        return getattr(importlib.import_module(module), name)(source, spec.options)
