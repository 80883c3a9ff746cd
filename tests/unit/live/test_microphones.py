"""Several microphones, heard as one."""

import asyncio

import numpy as np
import pytest

from gateway.live import microphones
from gateway.live.microphones import Microphones
from services.runtime.errors import InvalidInput
from talkmesh.audio.v1 import audio_pb2

RATE = 16000
CHUNK = 320
S16 = audio_pb2.AudioFormat(encoding=audio_pb2.ENCODING_PCM_S16LE, sample_rate_hz=RATE, channels=1)
F32 = audio_pb2.AudioFormat(encoding=audio_pb2.ENCODING_PCM_F32LE, sample_rate_hz=48000, channels=2)


def loud(value: int, samples: int = CHUNK) -> bytes:
    return np.full(samples, value, "<i2").tobytes()


class Room:
    """What is heard of all microphones."""

    def __init__(self, format: audio_pb2.AudioFormat = S16) -> None:
        self.data = b""
        self.chunks: list[int] = []
        self.microphones = Microphones(format, 1000, self.hear)

    async def hear(self, data: bytes) -> None:
        self.data += data
        self.chunks.append(len(data))

    @property
    def samples(self) -> list[int]:
        return [int(sample) for sample in np.frombuffer(self.data, "<i2")]


async def test_a_gap_is_heard_as_silence_in_chunks_that_are_taken() -> None:
    room = Room()
    with room.microphones.opened() as one:
        await one.hear(loud(5), 0)
        await one.hear(loud(6), CHUNK + 5 * RATE)
    assert room.samples == [5] * CHUNK + [0] * (5 * RATE) + [6] * CHUNK
    assert max(room.chunks) <= 2 * RATE


@pytest.mark.parametrize("start", [CHUNK - 1, -1, CHUNK + 5 * RATE + 1, 2**60])
async def test_what_does_not_follow_is_refused_and_nothing_of_it_heard(start: int) -> None:
    room = Room()
    with room.microphones.opened() as one:
        await one.hear(loud(5), 0)
        with pytest.raises(InvalidInput) as caught:
            await one.hear(loud(6), start)
        assert caught.value.field == "audio.start_sample"
        await one.hear(loud(7), CHUNK)
    assert room.samples == [5] * CHUNK + [7] * CHUNK


@pytest.mark.parametrize(
    ("format", "data"),
    [
        (S16, bytes(641)),
        (S16, bytes(2 * RATE + 2)),
        (F32, bytes(12)),
        (F32, np.array([0.0, np.nan], "<f4").tobytes()),
        (F32, np.array([np.inf, 0.0], "<f4").tobytes()),
    ],
    ids=["half a sample", "too long", "half a frame", "NaN", "infinity"],
)
async def test_bad_audio_is_refused(format: audio_pb2.AudioFormat, data: bytes) -> None:
    room = Room(format)
    with room.microphones.opened() as one, pytest.raises(InvalidInput) as caught:
        await one.hear(data)
    assert caught.value.field == "audio.data"
    assert room.data == b""


async def test_a_session_that_names_no_input_hears_nothing() -> None:
    room = Room(audio_pb2.AudioFormat())
    with room.microphones.opened() as one, pytest.raises(InvalidInput, match="no audio input"):
        await one.hear(loud(1))


async def test_each_microphone_has_a_count_of_its_own_and_all_are_mixed() -> None:
    room = Room()
    with room.microphones.opened() as one:
        await one.hear(loud(1), 0)
        with room.microphones.opened() as other:
            await other.hear(loud(100), 0)
            await one.hear(loud(2), CHUNK)
            await other.hear(loud(32767), CHUNK)
            await one.hear(loud(3), 2 * CHUNK)
            await one.hear(loud(4), 3 * CHUNK)
    assert room.samples == [1] * CHUNK + [102] * CHUNK + [32767] * CHUNK + [4] * CHUNK, "mixed, clipped, then alone"


async def test_what_waits_is_bounded_and_the_newest() -> None:
    room = Room()
    with room.microphones.opened() as one, room.microphones.opened() as other:
        await one.hear(loud(0))
        for value in range(100):
            await other.hear(loud(value))
        assert len(other.waiting) == room.microphones.bytes_of(microphones.WAITING_S)
        await one.hear(loud(0))
    assert room.samples[-1] == 80


async def test_when_the_one_that_kept_time_leaves_or_stalls_another_does(monkeypatch: pytest.MonkeyPatch) -> None:
    room = Room()
    with room.microphones.opened() as one:
        with room.microphones.opened() as other:
            await other.hear(loud(1))
            await one.hear(loud(2))
            assert room.samples == [1] * CHUNK
        await one.hear(loud(3))
        assert room.samples == [1] * CHUNK + [2] * CHUNK + [3] * CHUNK, "nothing of it is lost"
        with room.microphones.opened() as third:
            monkeypatch.setattr(microphones, "LEAD_S", 0.0)
            await third.hear(loud(4))
        assert room.samples[-1] == 4


async def test_a_microphone_that_stalls_is_heard_as_silence_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(microphones, "STALLED_S", 0.1)
    monkeypatch.setattr(microphones, "SILENCE_S", 0.2)
    monkeypatch.setattr(microphones, "STEP_S", 0.02)
    room = Room()
    filling = asyncio.create_task(room.microphones.fall_silent())
    await asyncio.sleep(0.2)
    assert room.data == b"", "nobody has spoken yet"
    with room.microphones.opened() as one:
        await one.hear(loud(1), 0)
        await asyncio.sleep(0.6)
        silence = room.samples[CHUNK:]
        assert silence and not any(silence)
        assert len(silence) <= 0.3 * RATE
        await one.hear(loud(2), CHUNK)
        assert room.samples[-1] == 2, "its own count does not know of the silence"
    filling.cancel()
