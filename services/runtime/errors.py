"""What can go wrong, in words of the domain. Nothing here knows of gRPC or HTTP; `statuses` maps these to wire statuses."""

from collections.abc import Iterable


class DomainError(Exception):
    """An error that its receiver can understand and act on. The message is written for a person."""


def first_of(group: BaseException) -> DomainError:
    """The failure that came first of a group of them: what came after it is its consequence."""
    while isinstance(group, BaseExceptionGroup):
        group = group.exceptions[0]
    assert isinstance(group, DomainError)
    return group


class InvalidInput(DomainError):
    """Something that was sent is not what the contract says."""

    def __init__(self, field: str, problem: str, expected: str = "") -> None:
        """`field` is the name the sender used, `problem` what is wrong with it, `expected` what would have been right."""
        self.field = field
        self.problem = problem
        self.expected = expected
        super().__init__(f"{field}: {problem}" + (f"; expected {expected}" if expected else ""))


class NotFound(DomainError):
    """A thing that was asked for by name does not exist."""

    def __init__(self, kind: str, name: str, known: Iterable[str] = ()) -> None:
        self.kind = kind
        self.name = name
        self.known = tuple(known)
        listed = f"; known: {', '.join(self.known)}" if self.known else ""
        super().__init__(f"{kind} {name!r} is not known{listed}")


class WeightsMismatch(DomainError):
    """A model's files are not the ones that its catalog entry names."""


class LoadFailed(DomainError):
    """A model could not be loaded: its files are missing, broken or of the wrong kind."""


class Unavailable(DomainError):
    """Nobody can serve this now; the same call may succeed after `retry_after_s` seconds."""

    def __init__(self, problem: str, retry_after_s: float = 1.0) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(problem)


class Busy(Unavailable):
    """The server is at its limit of concurrent work; nothing is wrong with the call."""


class OverLimit(Busy):
    """The caller has had as much as it may have for now; the server has room for others."""


class Unauthenticated(DomainError):
    """Nobody knows who is calling. `kind` is a word for it, for those who count."""

    def __init__(self, problem: str, kind: str) -> None:
        self.kind = kind
        super().__init__(problem)


class Denied(DomainError):
    """Whoever is calling may not do this."""


class Drained(Unavailable):
    """A stream had not ended when its model's time was over; the same call goes to the model that came after it."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem, retry_after_s=0.0)


class Refused(DomainError):
    """The state of things does not allow this; it stays so until somebody changes it."""


class Outrun(DomainError):
    """Somebody else changed the same thing first."""
