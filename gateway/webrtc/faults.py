"""Domain errors in the words of JSON: what HTTP and the data channel say when something is wrong."""

from dataclasses import dataclass

from google.rpc import code_pb2

from services.runtime import statuses
from services.runtime.errors import DomainError, InvalidInput, Unavailable


@dataclass(frozen=True)
class Fault:
    """An error as a client gets it: `code` is the name of a gRPC status, `field` what was wrong of an input."""

    code: str
    message: str
    field: str = ""
    retry_after_s: float | None = None

    def as_json(self) -> dict[str, object]:
        """Without what there is nothing to say about."""
        said: dict[str, object] = {"code": self.code, "message": self.message}
        if self.field:
            said["field"] = self.field
        if self.retry_after_s is not None:
            said["retry_after_s"] = self.retry_after_s
        return said


def fault_of(error: DomainError) -> Fault:
    """The same code as gRPC would give, so that there is one list of codes to know."""
    return Fault(
        code=code_pb2.Code.Name(statuses.status_of(error).code),
        message=statuses.message_of(error),
        field=error.field if isinstance(error, InvalidInput) else "",
        retry_after_s=error.retry_after_s if isinstance(error, Unavailable) else None,
    )
