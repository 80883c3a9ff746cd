"""The client SDK of talkmesh: talk to a digital human, and get text, sound and pictures back as they are made."""

from talkmesh.client import AudioInput, Client, ClientSession, SessionConfig
from talkmesh.errors import TalkmeshError, WavError
from talkmesh.events import (
    Audio,
    Emotion,
    Event,
    FaceFrame,
    Model,
    Mp4,
    Outcome,
    Phonemes,
    ReplyClause,
    SpeechActivity,
    Stage,
    Started,
    Transcript,
    TurnDone,
    Video,
)
from talkmesh.wav import Wav, read_wav

__all__ = [
    "Audio",
    "AudioInput",
    "Client",
    "ClientSession",
    "Emotion",
    "Event",
    "FaceFrame",
    "Model",
    "Mp4",
    "Outcome",
    "Phonemes",
    "ReplyClause",
    "SessionConfig",
    "SpeechActivity",
    "Stage",
    "Started",
    "TalkmeshError",
    "Transcript",
    "TurnDone",
    "Video",
    "Wav",
    "WavError",
    "read_wav",
]
