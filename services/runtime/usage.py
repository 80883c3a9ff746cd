"""How much each model has been used of late: what was used yesterday is likely to be asked for again."""

import time
from collections.abc import Callable, Mapping

HOUR_S = 3600.0
DAY_HOURS = 24


class Usage:
    """Streams by model and hour of the last day."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._hours: dict[int, dict[str, int]] = {}

    def count(self, model: str) -> None:
        """One stream more."""
        hour = self._hours.setdefault(int(self._now() // HOUR_S), {})
        hour[model] = hour.get(model, 0) + 1

    def lately(self) -> list[str]:
        """Models used within the last day, the most used first."""
        self._forget()
        total: dict[str, int] = {}
        for hour in self._hours.values():
            for model, streams in hour.items():
                total[model] = total.get(model, 0) + streams
        return sorted(total, key=lambda model: (-total[model], model))

    def dump(self) -> dict[str, dict[str, int]]:
        """For the disk."""
        self._forget()
        return {str(hour): dict(models) for hour, models in self._hours.items()}

    def restore(self, dumped: Mapping[str, Mapping[str, int]]) -> None:
        """What `dump` gave before."""
        self._hours = {int(hour): dict(models) for hour, models in dumped.items()}

    def _forget(self) -> None:
        oldest = int(self._now() // HOUR_S) - DAY_HOURS
        self._hours = {hour: models for hour, models in self._hours.items() if hour > oldest}
