"""What is in the file: sound in step with the pictures, and nothing that was cut away."""

from fractions import Fraction

import pytest

from gateway.clock import Clock
from gateway.recording import Recording

FRAME = 960


class Notes:
    """Stands for the MP4 writer: notes what it is given."""

    def __init__(self) -> None:
        self.sound = b""
        self.pictures: list[int] = []

    def audio(self, data: bytes, start_sample: int) -> bytes:
        assert start_sample == len(self.sound) // 2
        self.sound += data
        return b"a"

    def video(self, data: bytes, start_sample: int, keyframe: bool) -> bytes:
        self.pictures.append(start_sample)
        return b"v"

    def close(self) -> bytes:
        return b"end"


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def recording(notes: Notes) -> Recording:
    return Recording(notes, Clock(24000, Fraction(25)))


def pcm(value: int, samples: int) -> bytes:
    return value.to_bytes(2, "little") * samples


def test_sound_waits_for_its_picture(recording: Recording, notes: Notes) -> None:
    recording.audio(0, pcm(1, 3 * FRAME))
    assert notes.sound == b""
    assert recording.picture(b"x", 0, True) == b"va"
    assert notes.sound == pcm(1, FRAME)
    recording.picture(b"x", FRAME, False)
    assert notes.sound == pcm(1, 2 * FRAME)


def test_what_was_cut_is_replaced(recording: Recording, notes: Notes) -> None:
    recording.audio(0, pcm(1, 4 * FRAME))
    recording.picture(b"x", 0, True)
    recording.audio(2 * FRAME, pcm(0, FRAME))
    for frame in (1, 2, 3):
        recording.picture(b"x", frame * FRAME, False)
    assert notes.sound == pcm(1, 2 * FRAME) + pcm(0, 2 * FRAME)


def test_gaps_are_silence(recording: Recording, notes: Notes) -> None:
    recording.audio(FRAME, pcm(7, FRAME))
    recording.picture(b"x", 0, True)
    recording.picture(b"x", FRAME, False)
    recording.picture(b"x", 2 * FRAME, False)
    assert notes.sound == pcm(0, FRAME) + pcm(7, FRAME) + pcm(0, FRAME)
    assert recording.close() == b"end"
