"""What users think, in JSON."""

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from gateway.http.errors import RESPONSES
from gateway.outcomes.ratings import MOST_COMMENT_CHARS, Ratings
from services.runtime.errors import Refused


class Feedback(BaseModel):
    """A score, and why."""

    model_config = ConfigDict(extra="forbid", strict=True)

    score: float = Field(ge=-1, le=1, description="-1 (bad) to 1 (good); n of 5 stars is (n - 3) / 2")
    turn_id: str = Field(default="", max_length=64, description="empty: the session as a whole")
    comment: str = Field(
        default="", max_length=MOST_COMMENT_CHARS, description="kept only where what people say is kept"
    )


def router_of(ratings: Ratings | None) -> APIRouter:
    router = APIRouter(prefix="/api/sessions", tags=["sessions"], responses=RESPONSES)

    @router.post("/{session_id}/feedback", status_code=204, response_class=Response)
    async def send_feedback(session_id: str, feedback: Feedback) -> Response:
        """Say what a user thought of a session, or of one of its turns."""
        if ratings is None:
            raise Refused("this gateway keeps no outcomes")
        await ratings.take(session_id, feedback.score, feedback.turn_id, feedback.comment)
        return Response(status_code=204)

    return router
