"""Whether one more live session can be kept in time: told by those that run. No I/O; times are seconds of one clock."""

from collections import deque
from dataclasses import dataclass, field

from gateway.live.machines import Machines
from services.runtime.errors import Busy

WINDOW_S = 10.0
LEAST_PICTURES = 50
"""Fewer in the window say nothing."""
MOST_LATE = 0.25
"""Share of pictures that come too late, or not at all, from which nobody is let in."""
RETRY_S = 5.0
EMA = 0.05


@dataclass
class Window:
    """Pictures of all sessions in the last WINDOW_S."""

    seconds: deque[list[float]] = field(default_factory=deque)

    def add(self, now: float, missed: bool) -> None:
        """A picture was shown in time, or not."""
        if not self.seconds or now - self.seconds[-1][0] >= 1.0:
            self.seconds.append([now, 0, 0])
        self.seconds[-1][1] += 1
        self.seconds[-1][2] += missed

    def missed(self, now: float) -> tuple[float, float]:
        """How many there were, and the share that was missed."""
        while self.seconds and now - self.seconds[0][0] > WINDOW_S:
            self.seconds.popleft()
        count = sum(second[1] for second in self.seconds)
        return count, sum(second[2] for second in self.seconds) / count if count else 0.0


class Load:
    """What drawing takes, as a renderer draws for all one picture after the other; and what the whole of it takes."""

    def __init__(self, most_share: float, most_processor: float) -> None:
        """What may be promised. `most_share`: of a renderer's time; `most_processor`: of a machine's cores; both 0 to 1."""
        self._most = most_share
        self._most_processor = most_processor
        self.machines = Machines()
        self._window = Window()
        self._draw_s: dict[int, float] = {}
        """Picture size → what drawing one takes."""
        self._sessions: dict[str, tuple[int, float]] = {}

    def drawn(self, size: int, draw_s: float) -> None:
        """A picture of that size took so long in its engine."""
        before = self._draw_s.get(size, draw_s)
        self._draw_s[size] = before + EMA * (draw_s - before)

    def shown(self, now: float) -> None:
        """A picture was shown in time."""
        self._window.add(now, False)

    def missed(self, now: float) -> None:
        """A picture was late, or left out."""
        self._window.add(now, True)

    def begun(self, session_id: str, size: int, fps: float) -> None:
        """A session runs."""
        self._sessions[session_id] = (size, fps)

    def ended(self, session_id: str) -> None:
        self._sessions.pop(session_id, None)

    def share(self, size: int, fps: float) -> float:
        """Of a renderer's time, what a session takes; the nearest size that is known tells of one that is not."""
        if not self._draw_s:
            return 0.0
        known = min(self._draw_s, key=lambda each: abs(each - size))
        return fps * self._draw_s[known] * (max(1.0, (size / known) ** 2) if known else 1.0)

    @property
    def promised(self) -> float:
        """Renderer time that the sessions take, in renderers."""
        return sum(self.share(size, fps) for size, fps in self._sessions.values())

    def admit(self) -> None:
        """Raises Busy when the machines have no room for one more session, drawn or not."""
        count = self.machines.count
        share, wanted = self.machines.share(count), self.machines.share(count + 1)
        if count and wanted > self._most_processor:
            problem = f"conversations ({count}) take up to {share:.0%} of a machine, and one more does not fit"
            raise Busy(problem, RETRY_S)

    def admit_drawn(self, size: int, fps: float, renderers: int, now: float) -> None:
        """Raises Busy when one more session would make all of them stutter."""
        count, missed = self._window.missed(now)
        if self._sessions and count >= LEAST_PICTURES and missed > MOST_LATE:
            raise Busy(f"{missed:.0%} of the pictures of the last {WINDOW_S:g} s came too late", RETRY_S)
        wanted = self.promised + self.share(size, fps)
        if self._sessions and wanted > self._most * max(1, renderers):
            problem = (
                f"{len(self._sessions)} live sessions take {self.promised:.0%} of a renderer, and one more does not fit"
            )
            raise Busy(problem, RETRY_S)
