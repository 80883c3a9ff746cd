"""Viewers that take nothing fill no memory."""

from fractions import Fraction

from gateway.live.program import MOST_KEPT, Picture, Program, Sound, Told
from talkmesh.animation.v1 import animation_pb2
from talkmesh.conversation.v1 import conversation_pb2

STEP = 480
LAG = 50
"""Steps in the second that viewers may be behind."""


def told(number: int) -> Told:
    return Told(conversation_pb2.ConverseResponse(turn_id=str(number)))


def face(step: int) -> Told:
    return Told(conversation_pb2.ConverseResponse(face_frame=animation_pb2.FaceFrame(start_sample=step * STEP)))


async def test_the_newest_of_what_is_told_is_kept() -> None:
    program = Program(24000, Fraction(25), 256, 256)
    with program.watch(sound=False, pictures=False) as viewer:
        for number in range(3 * MOST_KEPT):
            program.release(told(number))
        program.end()
        got = [item async for item in viewer]
    assert got == [told(number) for number in range(2 * MOST_KEPT, 3 * MOST_KEPT)]


async def test_media_is_never_given_up_for_what_is_told() -> None:
    program = Program(24000, Fraction(25), 256, 256)
    with program.watch() as viewer:
        pictures = [Picture(0, b"k", True, False), *(Picture(step * STEP, b"x", False, False) for step in (2, 4, 6))]
        for picture in pictures:
            program.release(picture)
        for number in range(2 * MOST_KEPT):
            program.release(told(number))
        program.end()
        got = [item async for item in viewer]
    assert [item for item in got if isinstance(item, Picture)] == pictures
    assert len(got) == MOST_KEPT


async def test_the_numbers_of_the_face_are_media() -> None:
    program = Program(24000, Fraction(25), 256, 256)
    with program.watch(pictures=False) as viewer:
        program.release(told(0))
        for step in range(3 * LAG):
            program.release(Sound(step * STEP, bytes(2 * STEP), False))
            program.release(face(step))
        program.end()
        got = [item async for item in viewer]
    assert got[0] == told(0)
    assert got[1:] == [
        item
        for step in range(2 * LAG - 1, 3 * LAG)
        for item in (Sound(step * STEP, bytes(2 * STEP), False), face(step))
    ]
