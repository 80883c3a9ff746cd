"""A real mesh, users who talk to it, and a voice that is broken for half of them: how long until it is taken back."""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from services.runtime.desired import budget_key, model_key
from services.runtime.etcd import connected, etcd_settings
from services.runtime.settings import CATALOG_FOLDER
from talkmesh import TalkmeshError, User
from talkmesh.admin.v1 import admin_pb2
from talkmesh.commands import results
from talkmesh.control import Admin
from tools.bench.experimenting import broken
from tools.bench.experimenting.crowd import Crowd
from tools.up import CROWDED, RunningMesh, running_mesh

FLAG, SLOT, CONTROL, VARIANT = "third-voice", "candidate", "heart", "broken"
COMPARED, OTHER = "voice", "joe"
READY_S, ROLLED_BACK_S, AFTER_S, SETTLED_S = 120.0, 120.0, 5.0, 2.0
BUCKETS = 1_000_000
ROOM = 4
"""Models of a service at a time: two that serve, one on its way, one that still drains."""
TURNS = 2
"""Of a session: one to lose, and one that must not be lost."""


def experiment(control: str, variant: str) -> str:
    """Half of all users each."""
    return json.dumps(
        {
            "owner": "bench",
            "variants": {control: {}, variant: {"slots": {"tts": SLOT}}},
            "control": control,
            "enrolled": [[0, BUCKETS]],
        }
    )


async def offered(mesh: RunningMesh, fails: float) -> None:
    """Have the catalog know the broken voice, and room for it beside two others."""
    known = json.loads((CATALOG_FOLDER / "tts.json").read_text(encoding="utf-8"))["heart"]
    spec = known | {"engine": "broken", "options": known["options"] | {"fails": fails}}
    async with connected(etcd_settings(mesh.endpoints)) as etcd:
        await etcd.put(model_key("tts", VARIANT), json.dumps(spec))
        await etcd.put(budget_key("tts"), json.dumps({"models": ROOM}))


async def begun(admin: Admin, flag: str, control: str, variant: str, model: str) -> float:
    """Put a model into the slot, and half of all users on it. Returns how long it took until somebody was enrolled."""
    began = time.perf_counter()
    await admin.set_slot("tts", model, SLOT, reason="bench")
    await admin.set_flag(flag, experiment(control, variant), reason="bench")
    async with asyncio.timeout(READY_S):
        while not await enrolled(admin, flag):
            await asyncio.sleep(0.1)
    return time.perf_counter() - began


async def enrolled(admin: Admin, flag: str) -> bool:
    try:
        return any(each.variant for each in await admin.decide(User("anybody"), flag))
    except TalkmeshError:
        return False


async def state_of(admin: Admin, flag: str) -> str:
    (found,) = [each for each in await admin.flags() if each.flag == flag]
    return str(json.loads(found.json).get("state", "on"))


async def compared(mesh: RunningMesh, options: argparse.Namespace) -> list[str]:
    """Two voices for half of the users each, until enough have come; what the operator reads then."""
    crowd = Crowd(mesh.address, COMPARED)
    async with Admin(mesh.address, actor="bench") as admin:
        await begun(admin, COMPARED, CONTROL, OTHER, OTHER)
        await crowd.talk("listener", options.workers, TURNS, lambda seen: len(seen.visits) >= options.compare)
        await asyncio.sleep(SETTLED_S)
        found = await admin.results(COMPARED)
        assert await state_of(admin, COMPARED) == "on", "nothing was wrong with it"
        await ended(admin, COMPARED)
    return results.lines(found)


async def ended(admin: Admin, flag: str) -> None:
    """Take a flag away, for another that is about the same slot."""
    await admin.delete_flag(flag, reason="bench")


async def rolled_back(mesh: RunningMesh, options: argparse.Namespace) -> dict[str, Any]:
    """Half of the users hear the broken voice, until they do not any more; and then some."""
    crowd, over = Crowd(mesh.address, FLAG), asyncio.Event()
    async with Admin(mesh.address, actor="bench") as admin:
        loading_s = await begun(admin, FLAG, CONTROL, VARIANT, VARIANT)
        talking = asyncio.create_task(crowd.talk("user", options.workers, TURNS, lambda _: over.is_set()))
        try:
            async with asyncio.timeout(ROLLED_BACK_S):
                while await state_of(admin, FLAG) != "off":
                    await asyncio.sleep(0.02)
            await asyncio.sleep(AFTER_S)
        finally:
            over.set()
            await talking
        verdict = (await admin.verdicts(FLAG))[0]
    return figures(crowd, verdict, loading_s)


def figures(crowd: Crowd, verdict: admin_pb2.Verdict, loading_s: float) -> dict[str, Any]:
    off_at, first = verdict.at_ms / 1000, min(crowd.failed_at)
    arms = {arm.variant: {"sessions": arm.sessions, "failed": arm.failed} for arm in verdict.arms}
    return {
        "live_rollback_s": round(off_at - first, 2),
        "last_failure_s": round(max(crowd.failed_at) - first, 2),
        "turns_lost_per_session_max": max(visit.failed for visit in crowd.visits),
        "sessions_refused": crowd.refused,
        "live_arms": crowd.by_variant(),
        "live_loading_s": round(loading_s, 1),
        "live_problems": dict(crowd.problems),
        "verdict": {
            "action": verdict.action,
            "variant": verdict.variant,
            "reason": verdict.reason,
            "arms": arms,
            "log_e": verdict.numbers.get("log_e", 0.0),
        },
    }


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The whole run, and its figures."""
    with tempfile.TemporaryDirectory(prefix="bench-experiments-") as logs:
        outcomes = {"gateway": (*CROWDED, "--outcomes-folder", str(Path(logs) / "outcomes"))}
        async with running_mesh(Path(logs), modules={"tts": broken.MODULE}, extra=outcomes) as mesh:
            await offered(mesh, options.fails)
            print("the mesh is ready", file=sys.stderr, flush=True)
            told = await compared(mesh, options) if options.compare else []
            return await rolled_back(mesh, options) | ({"compared": told} if told else {})
