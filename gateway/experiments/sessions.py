"""What experiments give to a session: settled once, and kept as long as it lives."""

from gateway.experiments.registry import Assigned, Registry, of_user
from gateway.sessions import Session
from talkmesh.conversation.v1 import conversation_pb2


def given(session: Session, who: conversation_pb2.Who, experiments: Registry) -> Assigned:
    """Settle it if this session is new. Raises InvalidInput for attributes that cannot be."""
    units, attributes = of_user(who, session.id)
    if session.assigned is None:
        session.assigned = experiments.assign(units, attributes)
    return session.assigned


def told(session: Session) -> list[conversation_pb2.Assignment]:
    """As clients are told."""
    return session.assigned.protos() if session.assigned else []
