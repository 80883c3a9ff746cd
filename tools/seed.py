"""Write the catalog of deploy/catalog into etcd, and what each service is to begin with.

    python -m tools.seed --etcd 127.0.0.1:2379

The models of the files are written as they are there. A slot that etcd knows already is left as it is.
"""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from services.runtime.access import EtcdOptions
from services.runtime.desired import SERVICES, STABLE, Note, SlotWish, model_key, slot_key
from services.runtime.errors import DomainError, InvalidInput, NotFound
from services.runtime.etcd import Etcd, Put, absent, connected
from services.runtime.options import from_command_line
from services.runtime.records import audited
from services.runtime.settings import CATALOG_FOLDER, chosen, read_catalog

ACTOR = "tools.seed"


async def seed(etcd: Etcd, wanted: Mapping[str, str] | None = None, folder: Path = CATALOG_FOLDER) -> None:
    """Write every service's catalog, and have it serve its model of `wanted`, or its catalog's first.

    `wanted` wins over what a slot says already; the catalog's first does not. Raises DomainError.
    """
    for service in SERVICES:
        catalog = read_catalog(folder / f"{service}.json")
        asked = (wanted or {}).get(service, "")
        if asked and asked not in catalog:
            raise NotFound(f"{service} model", asked, catalog)
        model, _ = chosen(catalog, asked)
        for name, spec in catalog.items():
            await etcd.put(model_key(service, name), spec.model_dump_json(exclude_defaults=True))
        await begin(etcd, service, model, bool(asked))


async def begin(etcd: Etcd, service: str, model: str, anyway: bool) -> None:
    """Want a model in a service's stable slot: if there is no such slot yet, or `anyway`."""
    key = slot_key(service)
    reason = "chosen at the start" if anyway else "first of the catalog"
    wish = SlotWish(model=model, actor=ACTOR, reason=reason)
    put = Put(key, wish.model_dump_json(exclude_defaults=True))
    audit = audited("seed slot", service, f"{STABLE}: {model}", Note(actor=ACTOR, reason=reason))
    await etcd.transact([] if anyway else [absent(key)], [put, audit])


class SeedSettings(EtcdOptions):
    """How the catalog gets into an etcd."""

    etcd: str = Field("127.0.0.1:2379", description="host:port of etcd, several with commas")
    catalog: Path = Field(CATALOG_FOLDER, description="folder of the catalog's files")


async def run(settings: SeedSettings) -> None:
    if (access := settings.etcd_access()) is None:
        raise InvalidInput("etcd", "names none", "host:port")
    async with connected(access) as etcd:
        await seed(etcd, folder=settings.catalog)


def main() -> None:
    about = "Write the catalog of a folder into etcd, and what each service is to begin with."
    settings = from_command_line(SeedSettings, "python -m tools.seed", about, "TALKMESH_SEED")
    try:
        asyncio.run(run(settings))
    except DomainError as error:
        sys.exit(f"tools.seed: {error}")


if __name__ == "__main__":
    main()
