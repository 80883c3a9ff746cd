"""What the data channel says, as JSON."""

from typing import Any

from gateway.webrtc.faults import Fault
from talkmesh.asr.v1 import asr_pb2
from talkmesh.audio.v1 import speech_pb2
from talkmesh.conversation.v1 import conversation_pb2

Message = dict[str, Any]
STATES = {
    conversation_pb2.FLOOR_IDLE: "listening",
    conversation_pb2.FLOOR_LISTENING: "listening",
    conversation_pb2.FLOOR_THINKING: "thinking",
    conversation_pb2.FLOOR_SPEAKING: "speaking",
}
SPOKEN = (asr_pb2.SpeechActivity.KIND_SPEECH_STARTED, asr_pb2.SpeechActivity.KIND_SPEECH_RESUMED)


def started(event: conversation_pb2.ConversationStarted, voice: str = "") -> Message:
    """Who is there. Without a `voice` asked for, it is the model's."""
    voices = (model.model for model in event.models if model.service == "tts")
    return {
        "type": "started",
        "session_id": event.session_id,
        "portrait": event.portrait,
        "voice": voice or next(voices, ""),
        "size": event.width,
        "models": [
            {"service": model.service, "model": model.model, "generation": model.slot_generation}
            for model in event.models
        ],
    }


def error(fault: Fault) -> Message:
    """Something that was asked for cannot be."""
    return {"type": "error", **fault.as_json()}


def told(response: conversation_pb2.ConverseResponse, rate_hz: int) -> Message | None:
    """An event of the session; None for what is not told to browsers. Times are milliseconds of the session's clock."""

    def ms(sample: int) -> int:
        return round(sample * 1000 / rate_hz)

    match response.WhichOneof("event"):
        case "started":
            return started(response.started)
        case "floor":
            state = STATES.get(response.floor.floor)
            return {"type": "state", "state": state} if state else None
        case "activity":
            return {"type": "activity", "speaking": response.activity.kind in SPOKEN}
        case "transcript":
            said = response.transcript
            return {"type": "transcript", "turn": response.turn_id, "text": said.text, "final": said.is_final}
        case "clause":
            return clause(response)
        case "phonemes":
            words = [
                {"word": word.word, "start_ms": ms(word.start_sample), "end_ms": ms(word.end_sample)}
                for word in response.phonemes.words
            ]
            return {"type": "words", "turn": response.turn_id, "words": words} if words else None
        case "cut":
            return {"type": "cut", "at_ms": ms(response.cut.at_sample), "may_resume": response.cut.may_resume}
        case "done":
            return done(response)
    return None


def clause(response: conversation_pb2.ConverseResponse) -> Message:
    """A piece of the reply, as soon as it is written."""
    part = response.clause
    return {
        "type": "clause",
        "turn": response.turn_id,
        "index": part.index,
        "text": part.text,
        "emotion": speech_pb2.Emotion.Name(part.expression.emotion).removeprefix("EMOTION_").lower(),
    }


def done(response: conversation_pb2.ConverseResponse) -> Message:
    """A turn is over."""
    end = response.done
    return {
        "type": "done",
        "turn": response.turn_id,
        "outcome": conversation_pb2.Outcome.Name(end.outcome).removeprefix("OUTCOME_").lower(),
        "user_text": end.user_text,
        "reply_text": end.reply_text,
        "first_audio_ms": round(end.waterfall.first_audio_ms, 1),
        "first_video_ms": round(end.waterfall.first_video_ms, 1),
        "stages": [{"name": stage.name, "ms": round(stage.duration_ms, 1)} for stage in end.waterfall.stages],
    }
