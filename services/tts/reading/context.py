"""What stands around a word."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Context:
    """The words before and after, without their punctuation; empty where there are none."""

    previous: str = ""
    following: str = ""
