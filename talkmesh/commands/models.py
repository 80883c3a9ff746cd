"""`talkmesh models`: the catalog, and where its models are."""

import argparse
import json
from collections.abc import Iterator
from typing import Any

from talkmesh.admin.v1 import admin_pb2
from talkmesh.commands.options import WELL, Commands, command, takes_json
from talkmesh.control import Admin
from talkmesh.mesh import phase_name
from talkmesh.status import model_json
from talkmesh.table import cell, mebibytes, table
from talkmesh.terminal import Terminal

COLUMNS = ("SERVICE", "MODEL", "ENGINE", "SLOTS", "HOST", "PHASE", "STREAMS", "MEMORY", "PRELOAD", "VETO")


def add(commands: Commands) -> None:
    made = command(commands, "models", "the catalog, and the hosts that have its models loaded", models)
    made.add_argument("service", nargs="?", default="", help="only of this service")
    takes_json(made)


async def models(options: argparse.Namespace) -> int:
    async with Admin(options.address) as admin:
        found = await admin.catalog(options.service)
    if options.json:
        Terminal().say(json.dumps(catalog_json(found)))
    else:
        problems = (f"{p.key}: {f'{p.field}: ' if p.field else ''}{p.reason}" for p in found.problems)
        Terminal().say(*table(COLUMNS, (row for model in found.models for row in rows(model))), *problems)
    return WELL


def rows(model: admin_pb2.CatalogModel) -> Iterator[tuple[str, ...]]:
    """A row a host; one without for a model that no host has."""
    known = (model.service, model.model, model.engine, cell(",".join(model.slots)))
    marks = ("yes" if model.preload else "-", cell(model.veto))
    for each in model.hosts:
        status = each.status
        figures = (phase_name(status.phase), str(status.streams), mebibytes(status.rss_bytes))
        yield (*known, each.instance, *figures, *marks)
    if not model.hosts:
        yield (*known, "-", "-", "-", "-", *marks)


def catalog_json(found: admin_pb2.ListCatalogResponse) -> dict[str, Any]:
    return {
        "models": [
            {
                "service": model.service,
                "model": model.model,
                "engine": model.engine,
                "source": model.source,
                "sha256": model.sha256,
                "preload": model.preload,
                "veto": model.veto,
                "slots": list(model.slots),
                "hosts": [{"instance": each.instance, **model_json(each.status)} for each in model.hosts],
            }
            for model in found.models
        ],
        "problems": [{"key": p.key, "field": p.field, "reason": p.reason} for p in found.problems],
    }
