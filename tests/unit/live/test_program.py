"""What viewers get of a program, when they keep up and when they do not."""

import asyncio
from fractions import Fraction

from gateway.live.program import Item, Picture, Program, Sound, Told, Viewer
from talkmesh.conversation.v1 import conversation_pb2

STEP = 480


class Keyframes:
    """Counts what is asked for."""

    def __init__(self) -> None:
        self.asked = 0

    def ask(self) -> None:
        self.asked += 1


def program(keyframes: Keyframes | None = None) -> Program:
    made = Program(24000, Fraction(25), 256, 256)
    made.keyframe = (keyframes or Keyframes()).ask
    return made


def sound(index: int) -> Sound:
    return Sound(index * STEP, bytes(2 * STEP), False)


def picture(index: int, keyframe: bool = False) -> Picture:
    return Picture(index * 2 * STEP, b"x", keyframe, False)


async def taken(viewer: Viewer, count: int) -> list[Item]:
    return [await anext(viewer) for _ in range(count)]


async def test_a_viewer_begins_with_a_keyframe_which_is_asked_for() -> None:
    keyframes = Keyframes()
    made = program(keyframes)
    with made.watch() as viewer:
        assert keyframes.asked == 1
        for item in (picture(0), picture(1), picture(2, keyframe=True), picture(3)):
            made.release(item)
        assert await taken(viewer, 2) == [picture(2, keyframe=True), picture(3)]
        assert viewer.dropped_pictures == 2


async def test_each_viewer_gets_all_in_order_and_only_what_it_wants() -> None:
    made = program()
    told = Told(conversation_pb2.ConverseResponse(turn_id="t"))
    with made.watch() as everything, made.watch(pictures=False, told=False) as listener:
        for item in (sound(0), picture(0, keyframe=True), told, sound(1)):
            made.release(item)
        made.end()
        assert [item async for item in everything] == [sound(0), picture(0, keyframe=True), told, sound(1)]
        assert [item async for item in listener] == [sound(0), sound(1)]


async def test_who_does_not_take_loses_the_oldest_media_and_nothing_that_was_told() -> None:
    keyframes = Keyframes()
    made = program(keyframes)
    told = Told(conversation_pb2.ConverseResponse(turn_id="t"))
    with made.watch(lag_ms=200) as viewer:
        made.release(picture(0, keyframe=True))
        made.release(told)
        for index in range(50):
            made.release(sound(index))
            if index % 2 == 0:
                made.release(picture(1 + index // 2))
        made.release(picture(26, keyframe=True))
        made.end()
        got = [item async for item in viewer]
    sounds = [item for item in got if isinstance(item, Sound)]
    pictures = [item for item in got if isinstance(item, Picture)]
    assert told in got
    assert sounds[0].start >= sounds[-1].start - 200 * 24 - 4 * STEP, "bounded"
    assert viewer.dropped_sound_ms == 20 * (50 - len(sounds)) > 0
    assert pictures == [picture(26, keyframe=True)], "nothing that cannot be decoded"
    assert keyframes.asked >= 2


async def test_a_viewer_waits_for_more_and_ends_with_the_session() -> None:
    made = program()
    with made.watch() as viewer:
        waiting = asyncio.create_task(taken(viewer, 1))
        await asyncio.sleep(0)
        made.release(sound(7))
        assert await waiting == [sound(7)]
        made.end()
        assert [item async for item in viewer] == []
    assert made.watched == 0
