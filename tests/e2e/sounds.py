"""What microphones pick up beside speech, and speech as bad microphones give it. All at 16 kHz, PCM_S16LE, mono."""

import numpy as np
import numpy.typing as npt

RATE = 16000
FULL = 32767
Wave = npt.NDArray[np.float64]


def pcm(wave: Wave) -> bytes:
    """Samples of -1 to 1; what is beyond is clipped."""
    return (wave.clip(-1, 1) * FULL).astype("<i2").tobytes()


def wave(data: bytes) -> Wave:
    """The samples of PCM_S16LE."""
    return np.frombuffer(data, "<i2") / (FULL + 1)


def silence(seconds: float) -> bytes:
    return bytes(2 * round(seconds * RATE))


def noise(seconds: float, level_db: float) -> bytes:
    """White noise; `level_db` is its RMS below full scale."""
    rng = np.random.default_rng(11)
    return pcm(rng.normal(0, 10 ** (level_db / 20), round(seconds * RATE)))


def music(seconds: float, beats_a_minute: int = 110) -> bytes:
    """Four chords of decaying harmonics, one a bar, struck on each beat, with a bass and a hiss for the drums."""
    chords = ((220.0, 261.6, 329.6), (174.6, 220.0, 261.6), (261.6, 329.6, 392.0), (196.0, 246.9, 293.7))
    beat = round(RATE * 60 / beats_a_minute)
    rng, time = np.random.default_rng(5), np.arange(beat) / RATE
    made = []
    for number in range(round(seconds * RATE) // beat + 1):
        chord = chords[number // 4 % len(chords)]
        tones = sum(
            np.sin(2 * np.pi * pitch * harmonic * time) / harmonic for pitch in chord for harmonic in (1, 2, 3, 4)
        )
        bass = 2 * np.sin(np.pi * chord[0] * time)
        hiss = rng.normal(0, 0.8, beat) * np.exp(-40 * time)
        made.append(0.08 * ((tones + bass) * np.exp(-2.5 * time) + hiss))
    return pcm(np.concatenate(made)[: round(seconds * RATE)])


def louder(data: bytes, by_db: float) -> bytes:
    """Amplified, and clipped where it does not fit any more."""
    return pcm(wave(data) * 10 ** (by_db / 20))


def as_stereo_floats(data: bytes, factor: int = 3) -> bytes:
    """The same at 48 kHz, two channels, 32 bit floats: a cheap microphone in a good interface."""
    samples = wave(data)
    places = np.arange(factor * len(samples)) / factor
    finer = np.interp(places, np.arange(len(samples)), samples)
    return np.stack([finer, 0.8 * finer], axis=1).astype("<f4").tobytes()


def without_pauses(data: bytes, longest_ms: float = 150.0, quiet: float = 0.005) -> bytes:
    """Speech whose silences are shortened to `longest_ms`, at its ends too."""
    block = RATE // 100
    blocks = wave(data)[: len(data) // 2 // block * block].reshape(-1, block)
    kept, silent = [], 0
    for each in blocks:
        silent = silent + 1 if np.abs(each).max() < quiet else 0
        if 10 * silent <= longest_ms:
            kept.append(each)
    return pcm(np.concatenate(kept))
