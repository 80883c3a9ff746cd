"""Logs: one line an event, on standard error, with the process's name in front. What people say is never logged."""

import logging
import sys
from typing import Literal

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]


def start_logging(name: str, level: str = "INFO") -> None:
    """Send this process's logs to standard error as `time LEVEL name logger: message`."""
    logging.basicConfig(
        level=level,
        stream=sys.stderr,
        format=f"%(asctime)s.%(msecs)03d %(levelname)-7s {name} %(name)s: %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
        force=True,
    )
    logging.getLogger("grpc._cython.cygrpc").addFilter(no_caller_left)


def no_caller_left(record: logging.LogRecord) -> bool:
    """Drop what grpc logs, as an error and with a traceback, when a caller leaves in the midst of a write.

    To leave is every caller's right: a barge-in is just that.
    """
    return not record.getMessage().startswith("ExecuteBatchError raised in core by servicer method")
