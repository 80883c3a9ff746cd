"""URLs, AMF, chunks and H.264: what goes over the wire, byte by byte."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest

from gateway.live.program import Item, Picture, Sound, Told
from gateway.outputs import amf, h264
from gateway.outputs.beginning import from_keyframe
from gateway.outputs.chunks import SEND_CHUNK_BYTES, ChunkError, ChunkReader, Message, chunked
from gateway.outputs.flv import FlvWriter, Kind
from gateway.outputs.push_url import push_url
from services.runtime.errors import InvalidInput
from talkmesh.conversation.v1 import conversation_pb2
from tests.fakes.programme import FPS, PICTURE_SAMPLES, RATE_HZ, SIZE, Encoder, sound


@pytest.mark.parametrize(
    ("text", "place", "key"),
    [
        ("rtmp://a.example/app/key", "rtmp://a.example/app", "key"),
        ("rtmp://A.example:1935/app/key?t=1&u=2", "rtmp://a.example/app", "key?t=1&u=2"),
        ("rtmp://a.example:1936/app/instance/key", "rtmp://a.example:1936/app/instance", "key"),
        ("rtmps://a.example/app/key", "rtmps://a.example/app", "key"),
        ("rtmps://a.example:8443/rtmp/key", "rtmps://a.example:8443/rtmp", "key"),
        ("RTMP://[::1]:1936/app/key", "rtmp://[::1]:1936/app", "key"),
        ("rtmp://ann:p%40ss@a.example/app/key", "rtmp://a.example/app", "key"),
    ],
)
def test_urls(text: str, place: str, key: str) -> None:
    url = push_url(text)
    assert (url.place, url.key) == (place, key)
    assert str(url) == f"{place}/***"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "s3cret",
        "rtmp://",
        "rtmp:///app/s3cret",
        "rtmp://host/s3cret",
        "rtmp://host/s3cret/",
        "rtmp://host:0x1/app/s3cret",
        "rtmp://host:99999/app/s3cret",
        "rtmp://u:s3cret@host:x/app/key",
        "rtmp://[::1/app/s3cret",
        "rtmp://host/app/s3cret\r\nX: y",
        "rtmp://host/app/s3cret listen=1",
        "rtmp://höst/app/s3cret",
        "rtmpt://host/app/s3cret",
        "file:///etc/s3cret",
        "http://host/app/s3cret",
        "rtmp://host/app/s3cret" + "k" * 3000,
    ],
)
def test_what_is_no_url_is_not_repeated(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        push_url(text)
    assert refused.value.field == "url"
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("a.example", True),
        ("A.EXAMPLE", True),
        ("a.example.", True),
        ("x.b.example", True),
        ("b.example", False),
        ("xb.example", False),
        ("a.example.evil", False),
        ("evil", False),
        ("a.example@evil", False),
    ],
)
def test_hosts_that_are_allowed(host: str, allowed: bool) -> None:
    hosts = ("A.example", "*.b.example")
    if allowed:
        push_url(f"rtmp://{host}/app/key", hosts)
    else:
        with pytest.raises(InvalidInput):
            push_url(f"rtmp://{host}/app/key", hosts)


def test_what_servers_say_is_shown_without_secrets() -> None:
    url = push_url("rtmp://ann:pw12@host/app/key1?t=2")
    assert url.redacted("key1?t=2 of ann (pw12) at key1 is bad") == "*** of *** (***) at *** is bad"


def test_amf_comes_back() -> None:
    values = ["connect", 1.0, {"app": "live", "n": 2.5, "yes": True, "none": None, "in": {"er": "ä"}}, None, False]
    assert amf.decoded(amf.encoded(*values)) == values


def test_amf_of_servers() -> None:
    array = b"\x08\x00\x00\x00\x01\x00\x01a\x00\x3f\xf0\x00\x00\x00\x00\x00\x00\x00\x00\x09"
    strict = b"\x0a\x00\x00\x00\x02\x01\x01\x05"
    date = b"\x0b" + bytes(8) + b"\x00\x00"
    assert amf.decoded(array + strict + date + b"\x0c\x00\x00\x00\x01x\x06") == [
        {"a": 1.0},
        [True, None],
        0.0,
        "x",
        None,
    ]


def test_broken_amf_is_an_error_and_nothing_else() -> None:
    whole, dice = (
        amf.encoded("onStatus", 0.0, None, {"level": "status", "code": "x", "in": {"a": 1.0}}),
        random.Random(1),
    )
    for _ in range(5000):
        broken = bytearray(whole)
        for _ in range(dice.randint(1, 4)):
            broken[dice.randrange(len(broken))] = dice.randrange(256)
        with contextlib.suppress(amf.AmfError):
            amf.decoded(bytes(broken[: dice.randint(1, len(broken))]))
    with pytest.raises(amf.AmfError):
        amf.decoded(b"\x03\x00\x01a" * 1000)


def reader_of(data: bytes) -> ChunkReader:
    stream = asyncio.StreamReader()
    stream.feed_data(data)
    stream.feed_eof()
    return ChunkReader(stream)


@pytest.mark.parametrize("timestamp", [0, 1, 0xFFFFFE, 0xFFFFFF, 0x1000000, 0xFFFFFFFF])
@pytest.mark.parametrize("length", [0, 1, SEND_CHUNK_BYTES, SEND_CHUNK_BYTES + 1, 3 * SEND_CHUNK_BYTES])
async def test_messages_come_back(timestamp: int, length: int) -> None:
    sent = Message(9, random.Random(length).randbytes(length), 1, timestamp)
    reader = reader_of(chunked(sent, 6) + chunked(sent, 4))
    reader.chunk_bytes = SEND_CHUNK_BYTES
    assert [await reader.message(), await reader.message()] == [sent, sent]


async def test_headers_that_leave_things_out() -> None:
    data = b"\x03\x00\x00\x05\x00\x00\x02\x14\x01\x00\x00\x00ab"
    data += b"\x43\x00\x00\x03\x00\x00\x01\x12c"  # Another length and kind, 3 ms later.
    data += b"\x83\x00\x00\x04d"  # 4 ms later.
    data += b"\xc3e"
    data += b"\x00\x05\x00\x00\x00\x00\x00\x01\x14\x00\x00\x00\x00f"  # Chunk stream 69.
    reader = reader_of(data)
    found = [await reader.message() for _ in range(5)]
    assert [(each.kind, each.payload, each.stream, each.timestamp_ms) for each in found] == [
        (0x14, b"ab", 1, 5),
        (0x12, b"c", 1, 8),
        (0x12, b"d", 1, 12),
        (0x12, b"e", 1, 12),
        (0x14, b"f", 0, 0),
    ]


async def test_a_message_that_is_too_long_is_refused() -> None:
    with pytest.raises(ChunkError):
        await reader_of(b"\x03\x00\x00\x00\x20\x00\x00\x14\x00\x00\x00\x00").message()


async def test_noise_is_an_error_and_nothing_else() -> None:
    dice = random.Random(2)
    for _ in range(300):
        reader = reader_of(dice.randbytes(400))
        with pytest.raises((ChunkError, EOFError)):
            while True:
                await reader.message()


def test_units_and_parameter_sets() -> None:
    data, keyframe = Encoder().encode(0, 16, True)
    found = h264.units(data)
    sets = h264.parameter_sets(found)
    assert keyframe
    assert sets is not None
    record = sets.configuration()
    assert record[:6] == bytes((1, *sets.sps[1:4], 0xFF, 0xE1))
    assert sets.sps in record
    assert sets.pps in record
    sizes, rest = [], h264.with_lengths(found)
    while rest:
        size = int.from_bytes(rest[:4], "big")
        sizes.append(size)
        rest = rest[4 + size :]
    assert sizes == [len(unit) for unit in found if unit[0] & 0x1F not in (7, 8, 9)]


def test_headers_come_first_and_again_when_they_change() -> None:
    writer = FlvWriter(RATE_HZ, FPS, SIZE, SIZE)
    encoders = Encoder(), Encoder(preset="veryfast")
    pictures = [
        Picture(index * PICTURE_SAMPLES, *encoders[index >= 2].encode(index, 16, index in (0, 2)), speaking=False)
        for index in range(4)
    ]
    written = [[(tag.kind, tag.timestamp_ms, tag.payload[:2]) for tag in writer.picture(each)] for each in pictures]
    header, coded = b"\x17\x00", b"\x17\x01"
    assert written == [
        [(Kind.AUDIO, 0, b"\xaf\x00"), (Kind.VIDEO, 0, header), (Kind.VIDEO, 0, coded)],
        [(Kind.VIDEO, 40, b"\x27\x01")],
        [(Kind.VIDEO, 80, header), (Kind.VIDEO, 80, coded)],
        [(Kind.VIDEO, 120, b"\x27\x01")],
    ]


def test_missing_sound_is_silence() -> None:
    """What comes behind a gap stays where it belongs."""
    writer = FlvWriter(RATE_HZ, FPS, SIZE, SIZE)
    pieces = [
        Sound(at, sound(at), speaking=False) for at in range(0, 5 * RATE_HZ, 480) if not RATE_HZ <= at < 3 * RATE_HZ
    ]
    stamps = [tag.timestamp_ms for piece in pieces for tag in writer.sound(piece)]
    assert stamps[-1] == pytest.approx(5000, abs=80)
    assert {later - now for now, later in pairwise(stamps)} <= {21, 22}
    assert writer.sound(pieces[0]) == []


async def test_an_output_begins_with_a_keyframe_and_the_sound_behind_it() -> None:
    async def items() -> AsyncIterator[Item]:
        yield Told(conversation_pb2.ConverseResponse())
        yield Picture(0, b"p", keyframe=False, speaking=False)
        for start in (0, 480, 960, 1440):
            yield Sound(start, bytes(960), speaking=False)
        yield Picture(1200, b"k", keyframe=True, speaking=False)
        yield Sound(1920, bytes(960), speaking=False)
        # Twice, and half again: nobody could place it.
        yield Picture(1200, b"k", keyframe=True, speaking=False)
        yield Sound(1920, bytes(960), speaking=False)
        yield Sound(2160, bytes(960), speaking=False)
        yield Picture(2160, b"p", keyframe=False, speaking=False)

    found = [(type(item).__name__, item.start, len(item.data)) async for item in from_keyframe(items(), RATE_HZ)]
    assert found == [
        ("Picture", 1200, 1),
        ("Sound", 1200, 480),
        ("Sound", 1440, 960),
        ("Sound", 1920, 960),
        ("Sound", 2400, 480),
        ("Picture", 2160, 1),
    ]


async def test_little_is_held_for_a_picture_that_does_not_come() -> None:
    async def items() -> AsyncIterator[Item]:
        for start in range(0, 10 * RATE_HZ, 480):
            yield Sound(start, bytes(960), speaking=False)
        yield Picture(0, b"k", keyframe=True, speaking=False)

    first, *rest = [item async for item in from_keyframe(items(), RATE_HZ)]
    assert isinstance(first, Picture)
    assert [rest[0].start, rest[-1].start] == [8 * RATE_HZ - 480, 10 * RATE_HZ - 480]
