"""What microphones, networks and clients do to a live call: it answers the next question, or says what is wrong."""

import asyncio
import itertools
import json
import signal
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from services.runtime.desired import model_key
from services.runtime.etcd import connected, etcd_settings
from services.runtime.settings import CATALOG_FOLDER
from talkmesh import (
    Audio,
    AudioInput,
    Client,
    LiveOptions,
    Outcome,
    SessionConfig,
    TalkmeshError,
    Transcript,
    TurnDone,
    Video,
    read_wav,
)
from talkmesh.control import Admin
from talkmesh.events import SpeechActivity
from tests.e2e import sounds
from tests.e2e.talking import CHUNK, RATE, Heard, Person, listening, person

HZ = 24000
QUIET = bytes(2 * CHUNK)
LONG = "The harbour wakes up early, long before the sun comes over the hills in the east, and the boats go out. " * 2
LEAVING = """
import asyncio, sys
from talkmesh import Client, LiveOptions, SessionConfig
async def main():
    config = SessionConfig(size=256, live=LiveOptions(grace_ms=4000))
    async with Client(sys.argv[1]) as client, client.live(config) as call:
        await call.say(sys.argv[2])
        async for each in call.events():
            if type(each.event).__name__ == "Audio":
                print(call.started.session_id, flush=True)
asyncio.run(main())
"""


async def still_answers(user: Person, question: bytes) -> None:
    """The microphone works, and somebody listens."""
    before = len(user.of(TurnDone))
    await user.say(question)
    done = (await user.turns(before + 1))[-1]
    assert done.outcome is Outcome.COMPLETED
    assert "capital of france" in done.user_text.lower()


def nobody_spoke(user: Person) -> None:
    assert user.of(TurnDone) == []
    assert [each.text for each in user.of(Transcript)] == []


# --- what is no speech ----------------------------------------------------------------------------------------------


async def test_an_open_microphone_that_gives_nothing_is_waited_for(mesh: str, question: Path) -> None:
    """A stall is heard as silence for three seconds and then costs nothing: 15 s are as good as a minute."""
    async with person(mesh, listening()) as user:
        await asyncio.sleep(0.5)
        user.sends.clear()
        await asyncio.sleep(15)
        nobody_spoke(user)
        recent = user.heard[-1]
        assert time.perf_counter() - recent.at < 2, "the face is there all the time"
        user.sends.set()
        await still_answers(user, read_wav(question).data)


async def test_a_microphone_that_dies_in_the_middle_of_a_word_does_not_hold_the_floor(
    mesh: str, question: Path
) -> None:
    async with person(mesh, listening()) as user:
        await user.say(read_wav(question).data[:-8000])
        user.sends.clear()
        (first,) = await user.turns(1)
        assert "capital" in first.user_text.lower()
        await user.call.ask("What is the capital of Italy?")
        second = (await user.turns(2))[1]
        assert second.outcome is Outcome.COMPLETED
        assert second.user_text == "What is the capital of Italy?"
        user.sends.set()
        await still_answers(user, read_wav(question).data)


@pytest.mark.parametrize(
    "sound",
    [
        sounds.silence(6),
        b"".join(sounds.noise(2.5, level) for level in (-60, -40, -30, -20, -10, -3)),
        sounds.music(10),
    ],
    ids=["silence", "noise", "music"],
)
async def test_what_is_no_speech_is_no_turn(mesh: str, question: Path, sound: bytes) -> None:
    async with person(mesh, listening()) as user:
        await user.say(sound)
        await asyncio.sleep(2)
        nobody_spoke(user)
        await still_answers(user, read_wav(question).data)


# --- speech as it should not be -------------------------------------------------------------------------------------


async def test_speech_that_is_much_too_loud_is_understood(mesh: str, question: Path) -> None:
    loud = sounds.louder(read_wav(question).data, 20)
    assert (abs(sounds.wave(loud)) > 0.99).mean() > 0.05, "it is clipped"
    async with person(mesh, listening()) as user:
        await still_answers(user, loud)


async def test_speech_in_stereo_floats_is_understood(mesh: str, question: Path) -> None:
    config = replace(listening(), input=AudioInput(48000, 2, is_float=True))
    async with person(mesh, config) as user:
        await still_answers(user, sounds.as_stereo_floats(read_wav(question).data))


async def test_a_monologue_longer_than_an_utterance_may_be_is_one_turn(
    mesh: str, addresses: dict[str, str], question: Path
) -> None:
    """The ASR takes six seconds at once; somebody speaks for three times as long without taking breath."""
    recordings = [read_wav(question.with_name(f"{name}.wav")).data for name in ("question", "ocean", "hello")]
    once = b"".join(map(sounds.without_pauses, recordings))
    async with brief_utterances(mesh, addresses["etcd"]), person(mesh, listening()) as user:
        await user.say(once * 4)
        (done,) = await user.turns(1)
        assert done.outcome is Outcome.COMPLETED
        for said in ("capital of france", "who are you"):
            assert done.user_text.lower().count(said) >= 3, done.user_text
        assert any(model.name == "brief" for model in done.models)
        finals = [each for each in user.of(Transcript) if each.is_final]
        assert len(finals) >= 2, "it was cut, and put together again"
        await still_answers(user, read_wav(question).data)


@asynccontextmanager
async def brief_utterances(mesh: str, etcd: str) -> AsyncIterator[None]:
    """An ASR whose utterances last six seconds at most."""
    spec = json.loads((CATALOG_FOLDER / "asr.json").read_text())["tiny.en"]
    spec["options"]["max_utterance_ms"] = 6000
    async with connected(etcd_settings(etcd)) as store:
        await store.put(model_key("asr", "brief"), json.dumps(spec))
    async with Admin(mesh, actor="test") as admin:
        await admin.swap("asr", "brief")
        try:
            yield
        finally:
            await admin.swap("asr", "tiny.en")


# --- chunks as they should not be -----------------------------------------------------------------------------------


async def test_a_gap_is_heard_as_silence(mesh: str, question: Path) -> None:
    """The same question twice, without a moment between them but five seconds in the count."""
    async with person(mesh, listening()) as user:
        await user.say(question)
        user.call._sent += 5 * RATE
        await user.say(question)
        async with asyncio.timeout(30):
            while len(finals := [each for each in user.of(Transcript) if each.is_final]) < 2:
                await asyncio.sleep(0.1)
        assert all("capital of france" in each.text.lower() for each in finals)
        begun = [each.sample for each in user.of(SpeechActivity) if each.speaking]
        assert begun[-1] - begun[0] >= 5 * RATE


BAD = {
    "gap of more than 5 s": ("audio.start_sample", 5 * RATE + 1, QUIET),
    "sent twice": ("audio.start_sample", -CHUNK, QUIET),
    "odd bytes": ("audio.data", 0, QUIET[1:]),
    "more than a second": ("audio.data", 0, bytes(2 * RATE + 2)),
}


@pytest.mark.parametrize(("field", "shift", "data"), BAD.values(), ids=BAD)
async def test_bad_audio_ends_its_call_by_name_and_nobody_elses(
    mesh: str, question: Path, field: str, shift: int, data: bytes
) -> None:
    async with person(mesh, listening()) as user:
        joined = listening(session_id=user.call.started.session_id)
        async with Client(mesh) as client, client.live(joined) as call:
            await call.hear(QUIET)
            call._sent += shift
            await call.hear(data)
            with pytest.raises(TalkmeshError) as caught:
                async for _ in call.events():
                    pass
        assert (caught.value.code, caught.value.field) == ("INVALID_ARGUMENT", field)
        await still_answers(user, read_wav(question).data)


async def test_floats_that_are_no_numbers_end_the_call_by_name(mesh: str) -> None:
    config = replace(listening(), input=AudioInput(16000, is_float=True))
    async with Client(mesh) as client, client.live(config) as call:
        await call.hear(struct.pack("<f", float("nan")) * CHUNK)
        with pytest.raises(TalkmeshError) as caught:
            async for _ in call.events():
                pass
    assert (caught.value.code, caught.value.field) == ("INVALID_ARGUMENT", "audio.data")


async def test_audio_of_another_format_than_the_sessions_is_refused(mesh: str) -> None:
    async with person(mesh, listening()) as user:
        other = replace(listening(session_id=user.call.started.session_id), input=AudioInput(48000, 2))
        async with Client(mesh) as client:
            with pytest.raises(TalkmeshError, match="16000 Hz") as caught:
                async with client.live(other):
                    pass
    assert (caught.value.code, caught.value.field) == ("INVALID_ARGUMENT", "input")


# --- clients as they should not be ----------------------------------------------------------------------------------


async def test_two_tabs_are_in_one_conversation(mesh: str, question: Path) -> None:
    async with person(mesh, listening()) as one:
        joined = listening(session_id=one.call.started.session_id)
        async with person(mesh, joined) as other:
            await other.until(Video, 5)
            await one.say(question)
            await one.turns(1)
            await other.say(question)
            await other.turns(2)
            await one.call.ask("What is the capital of Italy?")
            # Two calls have no order among themselves.
            await other.turns(3)
            await other.call.say("Thank you.")
            mine, theirs = await one.turns(4), await other.turns(4)
            assert mine == theirs
            assert [turn.outcome for turn in mine] == [Outcome.COMPLETED] * 4
            assert all("capital of france" in turn.user_text.lower() for turn in mine[:2])
            assert mine[2].user_text == "What is the capital of Italy?"
            assert mine[3].reply_text == "Thank you."
            heard = {each.start_sample: each.data for each in one.of(Audio)}
            assert all(heard[each.start_sample] == each.data for each in other.of(Audio))
            assert len(other.of(Audio)) >= 0.9 * len(heard)
        await still_answers(one, read_wav(question).data)


async def test_a_client_that_comes_back_is_heard(mesh: str, question: Path) -> None:
    async with person(mesh, listening()) as user:
        await still_answers(user, read_wav(question).data)
        session_id = user.call.started.session_id
    async with person(mesh, listening(session_id=session_id)) as user:
        await still_answers(user, read_wav(question).data)
        assert user.of(Video)[0].start_sample > HZ, "it is the same session"


async def test_a_client_that_does_not_read_for_a_while_goes_on_with_what_is_now(mesh: str, question: Path) -> None:
    gateway = process_of(mesh)
    async with person(mesh, listening()) as user:
        await user.until(Video, 10)
        await user.call.say(LONG)
        await user.speaks(0.5)
        before = gateway.memory_info().rss
        user.reads.clear()
        await asyncio.sleep(6)
        assert gateway.memory_info().rss - before < 20 * 2**20
        began, read = time.perf_counter(), len(user.heard) + 1
        user.reads.set()
        await asyncio.sleep(3)
        check_it_caught_up(user.heard[:read], user.heard[read:], began)
        await user.turns(1)
        await still_answers(user, read_wav(question).data)


def check_it_caught_up(before: list[Heard], after: list[Heard], since: float) -> None:
    """Only what was on its way is older than the two seconds that are kept; pictures begin anew behind the hole."""
    zero = min(each.at - each.event.start_sample / HZ for each in before if isinstance(each.event, Video))
    oldest = (since - zero - 2.5) * HZ
    pictures = [each.event for each in after if isinstance(each.event, Video)]
    sound = [each.event for each in after if isinstance(each.event, Audio)]
    assert sum(each.start_sample < oldest for each in pictures) <= 40
    assert sum(each.start_sample < oldest for each in sound) <= 50
    holes = [
        second.keyframe
        for first, second in itertools.pairwise(pictures)
        if second.start_sample - first.start_sample > HZ
    ]
    assert holes == [True], "what was missed is missing once, and then there is a whole picture"
    last = after[-1]
    newest = max(each.start_sample for each in pictures)
    assert last.at - zero - newest / HZ < 1.0, "it is there again"


async def test_a_client_that_is_killed_is_waited_for_and_then_forgotten(mesh: str) -> None:
    async with Client(mesh) as client:
        before = (await client.status()).sessions
        command = [sys.executable, "-c", LEAVING, mesh, LONG]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            session_id = (await asyncio.to_thread(process.stdout.readline)).strip()
            process.send_signal(signal.SIGKILL)
        assert session_id
        again = SessionConfig(session_id=session_id, size=256, live=LiveOptions())
        async with person(mesh, again, microphone=False) as user:
            (done,) = await user.turns(1)
            assert done.reply_text == LONG.strip(), "it went on while nobody was there"
        async with asyncio.timeout(20):
            while (await client.status()).sessions > before:
                await asyncio.sleep(0.1)


def process_of(address: str) -> psutil.Process:
    """The gateway that listens there."""
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if "gateway" in line and address in line:
            return process
    raise AssertionError(f"nothing listens at {address}")
