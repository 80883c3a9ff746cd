"""Logs: one line an event, on standard error, with the process's name in front. What people say is never logged."""

import logging
import sys


def start_logging(name: str, level: str = "INFO") -> None:
    """Send this process's logs to standard error as `time LEVEL name logger: message`."""
    logging.basicConfig(
        level=level,
        stream=sys.stderr,
        format=f"%(asctime)s.%(msecs)03d %(levelname)-7s {name} %(name)s: %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
        force=True,
    )
