"""Write the catalog of deploy/catalog into etcd, and what each service is to begin with.

    python -m tools.seed --etcd 127.0.0.1:2379

The models of the files are written as they are there. A slot that etcd knows already is left as it is.
"""

import argparse
import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path

from services.runtime.desired import SERVICES, AuditEntry, SlotWish, audit_key, model_key, slot_key
from services.runtime.errors import DomainError, NotFound
from services.runtime.etcd import Etcd, EtcdSettings, Put, absent, connected, etcd_settings
from services.runtime.recording import now_ms
from services.runtime.settings import CATALOG_FOLDER, chosen, read_catalog, secret

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
    key, at_ms = slot_key(service), now_ms()
    reason = "chosen at the start" if anyway else "first of the catalog"
    wish = SlotWish(model=model, actor=ACTOR, reason=reason)
    audit = AuditEntry(action="seed slot", service=service, subject=model, actor=ACTOR, reason=reason, at_ms=at_ms)
    value = wish.model_dump_json(exclude_defaults=True)
    await etcd.transact(
        [] if anyway else [absent(key)],
        [Put(key, value), Put(audit_key(at_ms, f"{ACTOR}-{service}"), audit.model_dump_json())],
    )


async def run(settings: EtcdSettings, folder: Path) -> None:
    async with connected(settings) as etcd:
        await seed(etcd, folder=folder)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.seed", description=__doc__.split("\n")[0])
    parser.add_argument("--etcd", default="127.0.0.1:2379", help="host:port, several with commas")
    parser.add_argument("--catalog", type=Path, default=CATALOG_FOLDER, help="folder of the catalog's files")
    for name, what in (
        ("ca", "to check etcd's certificate with"),
        ("cert", "of our own certificate"),
        ("key", "of it"),
    ):
        parser.add_argument(f"--etcd-{name}", type=Path, help=f"PEM file {what}")
    parser.add_argument("--etcd-user", default="", help="our name at etcd")
    parser.add_argument("--etcd-password-file", type=Path, help="file that holds our password at etcd")
    options = parser.parse_args()
    try:
        settings = etcd_settings(
            options.etcd,
            ca=options.etcd_ca,
            cert=options.etcd_cert,
            key=options.etcd_key,
            user=options.etcd_user,
            password=secret(options.etcd_password_file),
        )
        asyncio.run(run(settings, options.catalog))
    except DomainError as error:
        sys.exit(f"tools.seed: {error}")


if __name__ == "__main__":
    main()
