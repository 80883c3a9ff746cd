"""`talkmesh status`: each service of the mesh."""

import argparse
import json

from talkmesh.client import Client
from talkmesh.commands.options import UNHEALTHY, WELL, Commands, command, takes_json
from talkmesh.status import status_json, status_table
from talkmesh.terminal import Terminal


def add(commands: Commands) -> None:
    takes_json(command(commands, "status", "each service: model, health, latency", status))


async def status(options: argparse.Namespace) -> int:
    """Print how the mesh does. 0 only if every service serves."""
    async with Client(options.address) as client:
        found = await client.status()
    Terminal().say(*([json.dumps(status_json(found))] if options.json else status_table(found)))
    healths = {service["health"] for service in status_json(found)["services"]}
    return WELL if healths <= {"SERVING"} else UNHEALTHY
