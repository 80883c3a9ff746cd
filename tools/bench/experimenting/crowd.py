"""Users who come, talk for some turns and leave, as many at a time as wanted: what each of them got, and what it lost."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from talkmesh import Client, ClientSession, SessionConfig, TalkmeshError, TurnDone, User

QUESTION = "Hello, what can you do?"
REPLY_TOKENS = 6
TURN_S = 60.0


@dataclass
class Visit:
    """One session."""

    user: str
    variant: str = ""
    turns: int = 0
    failed: int = 0


@dataclass
class Crowd:
    """Everything that was seen."""

    address: str
    flag: str
    visits: list[Visit] = field(default_factory=list)
    failed_at: list[float] = field(default_factory=list)
    """When each turn failed, in seconds since 1970."""
    problems: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    """Sessions that did not even open."""

    async def come(self, name: str, turns: int, config: SessionConfig) -> None:
        """One user's visit."""
        visit = Visit(name)
        try:
            async with Client(self.address) as client, client.session(config) as session:
                given = {each.flag: each.variant for each in session.started.assignments}
                visit.variant = given.get(self.flag, "")
                self.visits.append(visit)
                for _ in range(turns):
                    await self._turn(session, visit)
        except TalkmeshError as error:
            self.refused += 1
            self.problems[str(error)[:120]] += 1

    async def _turn(self, session: ClientSession, visit: Visit) -> None:
        visit.turns += 1
        try:
            async with asyncio.timeout(TURN_S):
                async for event in session.ask(QUESTION):
                    if isinstance(event, TurnDone):
                        return
        except (TalkmeshError, TimeoutError) as error:
            visit.failed += 1
            self.failed_at.append(time.time())
            self.problems[str(error)[:120]] += 1

    async def talk(self, prefix: str, workers: int, turns: int, is_over: Callable[["Crowd"], bool]) -> None:
        """Visits by new users, one after the other at each of `workers`, until it is over."""
        numbers = iter(range(10**9))

        async def worker() -> None:
            while not is_over(self):
                name = f"{prefix}-{next(numbers)}"
                config = SessionConfig(user=User(name), video=False, max_reply_tokens=REPLY_TOKENS, seed=1)
                await self.come(name, turns, config)

        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(worker())

    def by_variant(self) -> dict[str, dict[str, int]]:
        """What each variant's sessions came to."""
        found: dict[str, Counter[str]] = {}
        for visit in self.visits:
            counts = found.setdefault(visit.variant or "none", Counter())
            counts.update(
                sessions=1, turns=visit.turns, turns_failed=visit.failed, sessions_failed=int(visit.failed > 0)
            )
        return {name: dict(counts) for name, counts in sorted(found.items())}
