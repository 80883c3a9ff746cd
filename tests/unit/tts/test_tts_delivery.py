"""Resampling to the sample, and the clock of a call."""

import numpy as np
import pytest

from services.tts.delivery import Delivery, pcm
from services.tts.engine import Clause, PhonemeSpan, Samples, Speech, WordSpan
from services.tts.resampling import Resampler, scaled

CLAUSE = Clause(0, "a")


def tone(samples: int, rate_hz: int, hz: float = 300.0) -> Samples:
    return np.sin(2 * np.pi * hz * np.arange(samples) / rate_hz).astype(np.float32)


def resampled(audio: Samples, rate_in_hz: int, rate_out_hz: int, piece: int) -> Samples:
    resampler = Resampler(rate_in_hz, rate_out_hz, len(audio))
    pieces = [resampler.push(audio[at : at + piece]) for at in range(0, len(audio), piece)]
    return np.concatenate([*pieces, resampler.finish()])


@pytest.mark.parametrize("rates", [(24000, 16000), (22050, 48000), (22050, 8000), (26222, 22050), (24000, 24000)])
@pytest.mark.parametrize("samples", [1, 37, 4801, 30011])
def test_resampled_length_is_exact(rates: tuple[int, int], samples: int) -> None:
    assert len(resampled(tone(samples, rates[0]), *rates, 1024)) == scaled(samples, *rates)


@pytest.mark.parametrize("rates", [(24000, 16000), (22050, 48000), (22050, 44101), (18000, 22050)])
def test_resampled_audio_stays_where_it_was(rates: tuple[int, int]) -> None:
    heard = resampled(tone(rates[0], rates[0]), *rates, 777)
    expected = tone(len(heard), rates[1])
    inside = slice(len(heard) // 10, -len(heard) // 10)
    assert np.abs(heard - expected)[inside].max() < 0.01


def test_positions_round_half_up_and_ends_meet() -> None:
    assert scaled(3, 2, 1) == 2
    assert [scaled(position, 22050, 16000) for position in (0, 22050)] == [0, 16000]


@pytest.mark.parametrize("rate_hz", [8000, 16000, 22050, 24000, 44100, 48000])
def test_chunks_follow_each_other_without_a_gap_and_spans_tile_them(rate_hz: int) -> None:
    delivery = Delivery(22050, rate_hz)
    at = 0
    for samples in (22050, 7, 10001):
        speech = Speech(
            CLAUSE,
            samples,
            [PhonemeSpan("a", 0, samples // 3), PhonemeSpan("b", samples // 3, samples)],
            [WordSpan("ab", 0, samples)],
        )
        begun = at
        phonemes, words = delivery.announce(speech)
        audio = tone(samples, 22050)
        for piece in np.array_split(audio, 5):
            for start, data in delivery.push(piece):
                assert start == at
                assert 0 < len(data) <= 2 * rate_hz * 40 // 1000
                at += len(data) // 2
        assert at == delivery.clock == begun + scaled(samples, 22050, rate_hz)
        assert [phonemes[0].start, phonemes[0].end, phonemes[1].end] == [begun, phonemes[1].start, at]
        assert (words[0].start, words[0].end) == (begun, at)


def test_an_engine_that_does_not_keep_its_word_is_found_out() -> None:
    delivery = Delivery(16000, 16000)
    delivery.announce(Speech(CLAUSE, 10))
    with pytest.raises(RuntimeError, match="2 samples more"):
        list(delivery.push(np.zeros(12, np.float32)))
    delivery = Delivery(16000, 16000)
    delivery.announce(Speech(CLAUSE, 10))
    with pytest.raises(RuntimeError, match="owes 10 samples"):
        delivery.announce(Speech(CLAUSE, 10))


def test_pcm_is_clipped_and_little_endian() -> None:
    assert pcm(np.asarray([0, 1, -1, 2, 1 / 32767], np.float32)) == b"\x00\x00\xff\x7f\x01\x80\xff\x7f\x01\x00"
