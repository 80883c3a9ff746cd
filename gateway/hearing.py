"""What the user says: one sequence of utterances on one clock, through as many recognition models as it takes."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from gateway.continuing import Backlog, Continued, Services, continued
from gateway.mesh import Stream, opened
from gateway.wishes import Wishes
from talkmesh.asr.v1 import asr_pb2
from talkmesh.audio.v1 import audio_pb2
from talkmesh.model.v1 import model_pb2

WAITING = 16
"""Most messages that wait to be sent: the client waits behind them."""
LEAD_MS = 1000
"""Kept of the audio before an utterance that is as long as it may be."""
SPEAKING = (
    asr_pb2.SpeechActivity.KIND_SPEECH_STARTED,
    asr_pb2.SpeechActivity.KIND_SPEECH_PAUSED,
    asr_pb2.SpeechActivity.KIND_SPEECH_RESUMED,
)
Request = asr_pb2.StreamingRecognizeRequest
ActivitySink = Callable[[asr_pb2.SpeechActivity], Awaitable[None]]
PredictionSink = Callable[[asr_pb2.TurnPrediction], Awaitable[None]]
TranscriptSink = Callable[[asr_pb2.Transcript, list[model_pb2.ServingModel]], Awaitable[None]]


class Hearing:
    """The stream to the ASR. Made by `hearing`.

    Audio since the last final is kept, and so are the flushes that have none, for the model after this one.
    """

    stream: Continued[Request, asr_pb2.StreamingRecognizeResponse]

    def __init__(self, mesh: Services, wishes: Wishes) -> None:
        self.backlog: Backlog[Request] = Backlog()
        self._mesh = mesh
        self._config = wishes.recognition()
        self._longest = 0
        self._utterances = self._before = 0
        """Finals of all models, and of those before the one that listens now."""
        self._unanswered = 0
        """Flushes without a final."""
        self._start: int | None = None
        """Where the utterance in progress begins."""
        self._activity = asr_pb2.SpeechActivity()
        """The last one told."""

    @property
    def started(self) -> asr_pb2.RecognitionStarted:
        """What the model that listens now has said of itself."""
        started: asr_pb2.RecognitionStarted = self.stream.started
        return started

    async def hear(self, audio: audio_pb2.AudioChunk) -> None:
        """More of the user's audio; waits while the service does not read. Until it has speech in it, models may change."""
        if self._start is None:
            self._start = audio.start_sample
        if not self._is_speaking:
            self._move()
        self.backlog.add(Request(audio=audio))
        self._forget_silence(audio.start_sample)
        await self.backlog.room(WAITING)

    async def flush(self, turn_id: str, generation: int) -> None:
        """The user has ended the turn."""
        self.end_utterance(turn_id, generation)
        await self.backlog.room(WAITING)

    def end_utterance(self, turn_id: str, generation: int) -> None:
        """As `flush`, without waiting."""
        self._unanswered += 1
        self.backlog.add(Request(flush=asr_pb2.Flush(turn_id=turn_id, generation=generation)))

    def close(self) -> None:
        """There will be no more audio."""
        self.backlog.close()

    def begin_turn(self) -> None:
        """Go on with the newest model now, unless this one is making something out."""
        self.stream.begin_turn()
        if not self._is_speaking:
            self._move()

    @property
    def _is_speaking(self) -> bool:
        """Whether the user was heard to speak in the utterance in progress, and not yet to stop."""
        return self._activity.kind in SPEAKING and self._is_of_this_utterance(self._activity)

    def _move(self) -> None:
        if not self._unanswered:
            self.stream.move(self._mesh.place("asr"))

    async def run(
        self,
        on_activity: ActivitySink,
        on_transcript: TranscriptSink,
        on_prediction: PredictionSink | None = None,
    ) -> None:
        """Pass on what is heard until everything is. Raises ServiceFailed, alone or in a group."""

        async def take(response: asr_pb2.StreamingRecognizeResponse) -> None:
            if response.HasField("activity"):
                if self._is_news(response.activity):
                    self._activity = response.activity
                    await on_activity(response.activity)
            elif response.HasField("prediction"):
                if on_prediction:
                    await on_prediction(response.prediction)
            elif response.HasField("transcript") and not self._is_farewell(response.transcript):
                transcript = self._placed(response.transcript)
                models = list(self.stream.models)
                if transcript.is_final:
                    self._end_utterance(transcript)
                await on_transcript(transcript, models)

        await self.stream.run(take)

    @asynccontextmanager
    async def opening(self) -> AsyncIterator[tuple[Stream[Any, Any], Any]]:
        """A stream that hears again what has no final yet."""
        self._before = self._utterances
        self.backlog.begin_again(self.backlog.kept)
        request = Request(config=self._config)
        async with opened("asr", self._mesh.asr.StreamingRecognize(), request) as (stream, started):
            rate_hz = self._config.format.sample_rate_hz
            self._longest = (started.max_utterance_ms + LEAD_MS) * rate_hz // 1000
            yield stream, started

    def _is_news(self, activity: asr_pb2.SpeechActivity) -> bool:
        """Whether it was not told before, by a model that had heard the same audio."""
        told = self._activity
        if activity.sample < told.sample:
            return False
        return activity.kind != told.kind or not self._is_of_this_utterance(told)

    def _is_of_this_utterance(self, activity: asr_pb2.SpeechActivity) -> bool:
        return activity.sample >= (self._start or 0)

    def _is_farewell(self, transcript: asr_pb2.Transcript) -> bool:
        """Whether it is what a stream makes of the rest when it is left: the next stream hears that again."""
        return self.stream.moving and transcript.is_final and not transcript.turn_id

    def _placed(self, transcript: asr_pb2.Transcript) -> asr_pb2.Transcript:
        """A transcript on the call's own count and clock, of which its model may have heard only the end."""
        if transcript.utterance == 0 and self._start is not None:
            transcript.start_sample = self._start
            transcript.end_sample = max(transcript.end_sample, self._start)
        transcript.utterance += self._before
        return transcript

    def _end_utterance(self, final: asr_pb2.Transcript) -> None:
        """Forget what a final is about, and look for a newer model: this is the moment to change it."""
        self._utterances = final.utterance + 1
        self._start = final.end_sample
        kept = self.backlog.kept
        if final.turn_id:
            self._unanswered -= 1
            turns = [sent.flush.turn_id for sent in kept]
            self.backlog.answered(turns.index(final.turn_id) + 1 if final.turn_id in turns else 0)
        else:
            self.backlog.answered(len(kept))
        self.stream.begin_turn()
        self.stream.forget_models()
        self._move()

    def _forget_silence(self, now: int) -> None:
        """Drop audio that lies longer ago than an utterance may last: a microphone may be open for hours."""
        kept = self.backlog.kept
        while not self._unanswered and now - kept[0].audio.start_sample > self._longest and self.backlog.answered(1):
            pass


@asynccontextmanager
async def hearing(mesh: Services, wishes: Wishes) -> AsyncIterator[Hearing]:
    """Raises ServiceFailed when the service refuses, for example the language."""
    made = Hearing(mesh, wishes)
    async with continued("asr", made.opening, made.backlog, patience_s=wishes.patience_s) as made.stream:
        yield made
