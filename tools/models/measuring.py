"""What a catalog's model takes and gives, and what its service's golden input makes of it: measured in this process."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass

from services.runtime import formats, sources
from services.runtime.engine import Measure, ModelSpec, Service
from services.runtime.errors import LoadFailed
from services.runtime.interface import Interface
from services.runtime.neighbours import check_declared, golden_differences
from tools.models.inventory import Model


@dataclass(frozen=True)
class Measured:
    """A model as it is."""

    interface: Interface
    golden: Mapping[str, Measure]

    def differences(self, spec: ModelSpec) -> list[str]:
        """Where it is not as its catalog entry says."""
        declared = check_declared(spec.interface, self.interface) if spec.interface else []
        return declared + golden_differences(spec.golden, self.golden)


async def measured(model: Model) -> Measured:
    """Load a model, run the golden input through it and let go of it. Raises what is wrong with it as a DomainError."""
    service: Service = importlib.import_module(f"services.{model.service}.servicer").SERVICE
    if service.measure is None:
        raise LoadFailed(f"{model.service} has no golden input")
    source = sources.resolve(model.spec.source)
    if source:
        formats.refuse_pickles(source)
        if model.spec.sha256:
            sources.verify(source, model.spec.sha256)
    engine = service.engine(model.spec, source)
    await engine.load()
    try:
        return Measured(service.interface(engine), await service.measure(engine))
    finally:
        await engine.unload()
