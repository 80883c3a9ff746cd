"""Whisper on short audio: one run of at most 30 s, decoded greedily, with the times of its words."""

import zlib
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import WhisperModel, merge_punctuations

from services.asr.engine import Samples, Word
from services.asr.hypothesis import Hypothesis, comparable

HOP = 160
"""Samples a mel frame."""
MOST_FRAMES = 3_000
FRAMES_AFTER = 100
"""Silence that Whisper needs to see after the last word, lest it goes on."""
MORE_FRAMES = 600
"""Added when it repeats itself nevertheless."""
MOST_WORDS = 1
MOST_WORDS_A_SECOND = 8
STOCK_PHRASES = frozenset(
    ("you", "thank you", "thank you very much", "thanks for watching", "bye", "bye bye", "bye-bye", "okay", "oh", "so")
)
SHORT_VOICE_S = 0.5
LOOP_WORDS = 4
# People do say "no, no, no": that is worth a second look with more frames, but no proof.
SUSPECT_TIMES, CERTAIN_TIMES = 3, 5
SURE_LOG_PROB = -0.9
PREPENDED = "\"'“¿([{-"
APPENDED = "\"'.。,，!！?？:：”)]}、"


@dataclass(frozen=True)
class Limits:
    """Beyond which a result is no speech, or no transcript of it; names and values are those of Whisper's own decoder."""

    least_frames: int = 1_200
    beam_size: int = 1
    no_speech_threshold: float = 0.6
    log_prob_threshold: float = -1.0
    compression_ratio_threshold: float = 2.4


@dataclass(frozen=True)
class Decoding:
    """Tokens and how sure the model is of them."""

    encoded: Any
    tokens: list[int]
    text: str
    mean_log_prob: float
    no_speech_prob: float
    ran_on: bool
    """It had to be stopped."""

    @property
    def compression_ratio(self) -> float:
        """How often the text repeats itself."""
        data = self.text.encode()
        return len(data) / len(zlib.compress(data))


class WhisperDecoder:
    """Calls may come from several threads at once: the model's own workers take one each."""

    def __init__(self, model: WhisperModel, limits: Limits) -> None:
        self._model = model
        self._limits = limits
        self._tokenizers = {language: self._tokenizer(language) for language in model.supported_languages}

    def decode(self, audio: Samples, language: str, voice_s: float) -> Hypothesis:
        """What is said in `audio` (16 kHz, at most 30 s), of which `voice_s` seconds are voice. Not aligned yet."""
        frames = min(MOST_FRAMES, max(self._limits.least_frames, len(audio) // HOP + FRAMES_AFTER))
        encoded = self._encode(audio, frames)
        language = language or self._detect(encoded)
        tokenizer = self._tokenizers[language]
        decoding = self._generate(encoded, tokenizer, len(audio))
        if frames < MOST_FRAMES and (self._repeats(decoding) or loops(decoding.text, SUSPECT_TIMES)):
            encoded = self._encode(audio, min(MOST_FRAMES, frames + MORE_FRAMES))
            decoding = self._generate(encoded, tokenizer, len(audio))
        if self._repeats(decoding):
            decoding = self._generate(encoded, tokenizer, len(audio), no_repeat_ngram_size=3)
        if not comparable(decoding.text) or self._is_no_speech(decoding) or is_made_up(decoding, voice_s):
            return Hypothesis(language=language)
        align = partial(self._words, decoding, tokenizer, len(audio))
        return Hypothesis(decoding.text, language=language, align=align)

    def _tokenizer(self, language: str) -> Tokenizer:
        multilingual = self._model.model.is_multilingual
        return Tokenizer(self._model.hf_tokenizer, multilingual, task="transcribe", language=language)

    def _encode(self, audio: Samples, frames: int) -> Any:
        """The encoder's output for `audio` followed by silence.

        Whisper was trained on 30 s; fewer frames take a small part of the time. Too few make it repeat itself.
        """
        padded = np.zeros(frames * HOP, np.float32)
        heard = audio[: len(padded)]
        padded[: len(heard)] = heard
        return self._model.encode(self._model.feature_extractor(padded, padding=0)[:, :frames])

    def _detect(self, encoded: Any) -> str:
        """The likeliest language."""
        if not self._model.model.is_multilingual:
            return "en"
        token, _ = self._model.model.detect_language(encoded)[0][0]
        return str(token).strip("<|>")

    def _generate(self, encoded: Any, tokenizer: Tokenizer, samples: int, **options: int) -> Decoding:
        prompt = [*tokenizer.sot_sequence, tokenizer.no_timestamps]
        most = most_tokens(samples)
        result = self._model.model.generate(
            encoded,
            [prompt],
            beam_size=self._limits.beam_size,
            max_length=len(prompt) + most,
            return_scores=True,
            return_no_speech_prob=True,
            **options,
        )[0]
        tokens = [token for token in result.sequences_ids[0] if token < tokenizer.eot]
        return Decoding(
            encoded=encoded,
            tokens=tokens,
            text=tokenizer.decode(tokens).strip(),
            mean_log_prob=result.scores[0] * len(tokens) / (len(tokens) + 1),
            no_speech_prob=result.no_speech_prob,
            ran_on=len(tokens) >= most,
        )

    def _repeats(self, decoding: Decoding) -> bool:
        packed = decoding.compression_ratio > self._limits.compression_ratio_threshold
        return packed or decoding.ran_on or loops(decoding.text, CERTAIN_TIMES)

    def _is_no_speech(self, decoding: Decoding) -> bool:
        return (
            decoding.no_speech_prob > self._limits.no_speech_threshold
            and decoding.mean_log_prob < self._limits.log_prob_threshold
        )

    def _words(self, decoding: Decoding, tokenizer: Tokenizer, samples: int) -> list[Word]:
        """Word times by the cross-attention of the text with the audio that is encoded already."""
        frames = max(1, samples // HOP)
        alignment = self._model.find_alignment(tokenizer, [decoding.tokens], decoding.encoded, frames)[0]
        merge_punctuations(alignment, PREPENDED, APPENDED)
        words: list[Word] = []
        for piece in alignment:
            word = timed(piece, samples)
            if word.text.startswith("-") and words:
                words[-1] = compound(words[-1], word)
            elif word.text:
                words.append(word)
        return words


def loops(text: str, times: int) -> bool:
    """Whether the text ends in the same few words, said `times` times: often too short to show in its compression."""
    words = [word.strip(APPENDED) for word in text.lower().split()]
    return any(
        len(words) >= times * size and words[-times * size :] == words[-size:] * times
        for size in range(1, LOOP_WORDS + 1)
    )


def is_made_up(decoding: Decoding, voice_s: float) -> bool:
    """Whether the text is more than can be said in that time, or what Whisper likes to say to a short noise."""
    words = decoding.text.lower().split()
    if len(words) > MOST_WORDS + MOST_WORDS_A_SECOND * voice_s:
        return True
    stock = " ".join(word.strip(APPENDED) for word in words) in STOCK_PHRASES
    return stock and voice_s < SHORT_VOICE_S and decoding.mean_log_prob < SURE_LOG_PROB


def most_tokens(samples: int) -> int:
    """More than anybody says in that time: 12 tokens a second, and a few."""
    return 16 + 12 * samples // 16_000


def timed(piece: dict[str, Any], samples: int) -> Word:
    """A word of an alignment, whose times are seconds."""
    start, end = (min(samples, round(float(piece[edge]) * 16_000)) for edge in ("start", "end"))
    return Word(piece["word"].strip(), start, max(start, end), round(float(piece["probability"]), 3))


def compound(first: Word, second: Word) -> Word:
    """Both halves of a word with a hyphen."""
    return Word(
        first.text + second.text, first.start_sample, second.end_sample, min(first.confidence, second.confidence)
    )
