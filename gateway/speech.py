"""Between the turn's own types and the protos of the services."""

from collections.abc import Iterable

from gateway.emotion import Expression
from gateway.turn import ClausePlanned, Span
from talkmesh.audio.v1 import speech_pb2
from talkmesh.tts.v1 import tts_pb2


def expression_proto(expression: Expression) -> speech_pb2.Expression:
    emotion = speech_pb2.Emotion.Value(f"EMOTION_{expression.emotion.name}")
    return speech_pb2.Expression(emotion=emotion, intensity=expression.intensity)


def phoneme_protos(spans: Iterable[Span]) -> list[speech_pb2.PhonemeSpan]:
    return [
        speech_pb2.PhonemeSpan(phoneme=span.text, start_sample=span.start, end_sample=span.end, stress=span.stress)
        for span in spans
    ]


def word_protos(spans: Iterable[Span]) -> list[speech_pb2.WordSpan]:
    return [speech_pb2.WordSpan(word=span.text, start_sample=span.start, end_sample=span.end) for span in spans]


def planned(speech: tts_pb2.ClauseSpeech, expression: Expression) -> ClausePlanned:
    """What the TTS says of a clause that was given to it with `expression`."""
    return ClausePlanned(
        index=speech.clause_index,
        start=speech.start_sample,
        phonemes=tuple(Span(p.phoneme, p.start_sample, p.end_sample, p.stress) for p in speech.phonemes),
        words=tuple(Span(w.word, w.start_sample, w.end_sample) for w in speech.words),
        expression=expression,
        engine_ms=speech.engine_ms,
    )
