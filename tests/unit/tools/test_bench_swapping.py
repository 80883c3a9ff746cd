"""The arithmetic of the swap bench, and what it takes for a fault."""

import itertools
from array import array
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from talkmesh import Model, Outcome, Speculation, TurnDone
from tools.bench.peers import inference
from tools.bench.swap import parsed
from tools.bench.swapping import blocks, gaps, memory, records, report, wires
from tools.bench.swapping.blocks import Block, Blocks, alternate
from tools.bench.swapping.burning import imitated_weights
from tools.bench.swapping.load import Hearing
from tools.bench.swapping.mesh import turn_figures
from tools.bench.swapping.records import Gap, StreamRecord
from tools.bench.swapping.stalls import Stall, Stalls, together
from tools.bench.swapping.turns import Arrivals, Turn
from tools.bench.swapping.wires import Chunk, Start

CHUNK = Chunk("a", "7", 0)


def stream(code: str = "OK", wanted: int = 3, got: int = 3, mixed: int = 0) -> StreamRecord:
    return StreamRecord(0, 1, wanted, got, mixed, code, "why", "a", 4, 2.5)


@pytest.fixture
def moments(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each look at the clock is 100 ms after the one before."""
    clock = itertools.count(10, 0.1)
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    yield


def test_a_moment_belongs_to_the_block_it_lies_in() -> None:
    found = Blocks([Block("base", 10, 20), Block("swap", 20, 30), Block("base", 33, 40)])
    assert [found.kind_at(at) for at in (9, 10, 19.9, 25, 31, 33, 40, 41)] == [
        *(None, "base", "base", "swap", None, "base", "base", None)
    ]
    assert (found.seconds("base"), found.seconds("swap")) == (17, 10)


@pytest.mark.parametrize("swaps", [1, 3, 4])
async def test_blocks_alternate_and_every_swap_is_made_once(swaps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "SETTLE_S", 0.0)
    monkeypatch.setattr(blocks, "PAUSE_S", 0.0)
    found, made = Blocks(), list[int]()

    async def swap(number: int) -> None:
        made.append(number)

    await alternate(found, swaps, 0.05, swap)
    assert made == list(range(swaps))
    kinds = [block.kind for block in found.found]
    assert kinds == (["base", "swap", "base"] if swaps == 1 else ["base", "swap", "swap", "base"])


def test_gaps_are_told_apart_by_their_block() -> None:
    found = Blocks([Block("base", 0, 10), Block("swap", 20, 30)])
    seen = [Gap(5, 1), Gap(15, 99), Gap(25, 2), Gap(26, 3)]
    assert gaps.by_kind(seen, found) == {"base": [1], "swap": [2, 3]}


def test_what_swaps_add_is_the_difference_of_percentiles() -> None:
    figures = gaps.gap_figures([float(n) for n in range(101)], [float(n + 5) for n in range(101)])
    assert (figures["base_p99"], figures["swap_p99"], figures["added_p99"]) == (99, 104, 5)
    assert (figures["base_max"], figures["swap_max"], figures["added_max"]) == (100, 105, 5)
    assert figures["share_over"] == pytest.approx(100 * 6 / 101, abs=0.01)
    with pytest.raises(ValueError, match="nothing"):
        gaps.gap_figures([], [1.0])


def test_streams_fail_are_cut_short_or_mixed() -> None:
    seen = [stream(), stream("UNAVAILABLE", got=1), stream(got=2), stream(mixed=2)]
    assert gaps.stream_figures(seen) == {
        "streams": 4,
        "streams_failed": 1,
        "streams_truncated": 2,
        "mixed_chunks": 2,
    }
    assert gaps.failures(seen) == ["UNAVAILABLE: why"]


@pytest.mark.usefixtures("moments")
def test_lateness_is_what_a_gap_has_beyond_the_pace() -> None:
    hearing = Hearing(40, array("d"))
    for said in (Start("a", 3), CHUNK, Chunk("a", "7", 1), Chunk("a", "7", 2)):
        hearing.hear(said)
    assert (hearing.model, hearing.generation, hearing.got, hearing.mixed) == ("a", 3, 3, 0)
    assert list(hearing.gaps[1::2]) == pytest.approx([60, 60])


@pytest.mark.parametrize("odd", [Chunk("b", "7", 1), Chunk("a", "8", 1), Chunk("a", "7", 2)])
def test_a_chunk_of_another_model_process_or_place_is_mixed(odd: Chunk) -> None:
    hearing = Hearing(40, array("d"))
    for said in (Start("a", 3), CHUNK, odd):
        hearing.hear(said)
    assert hearing.mixed == 1


def test_a_first_chunk_by_another_model_than_the_stream_began_with_is_mixed() -> None:
    hearing = Hearing(40, array("d"))
    hearing.hear(Start("b", 3))
    hearing.hear(CHUNK)
    assert hearing.mixed == 1


def test_records_come_back_as_they_were_written(tmp_path: Path) -> None:
    records.write(tmp_path / "load", array("d", [1.5, -2, 3, 4]), [stream(), stream("INTERNAL")])
    read = records.read(tmp_path / "load")
    assert read.gaps == [Gap(1.5, -2), Gap(3, 4)]
    assert read.streams == [stream(), stream("INTERNAL")]


def test_requests_to_a_peer_are_those_of_the_protocol() -> None:
    tensor = b"\x0a\x05input" + b"\x12\x05BYTES" + b"\x1a\x01\x01" + b"\x2a\x04" + b"\x42\x02hi"
    assert inference.request("m", b"hi").SerializeToString() == b"\x0a\x01m" + b"\x2a" + bytes([len(tensor)]) + tensor


def test_chunks_are_read_from_both_protocols() -> None:
    contents = inference.Contents(bytes_contents=[b"a/7 12"])
    response = inference.InferResponse(outputs=[inference.Tensor(contents=contents)])
    assert wires.v2().told(response) == wires.chunk("a/7 12") == Chunk("a", "7", 12)


def test_loading_is_imitated_in_memory() -> None:
    weights = imitated_weights(0.01, 3)
    assert len(weights) == 3 * 2**20
    assert set(weights[::4096]) == {1}


def test_growth_is_told_in_percent() -> None:
    assert memory.growth_pct(200, 210) == 5
    assert memory.growth_pct(0, 1) == 0


def done(end_sample: int, *models: str) -> TurnDone:
    held = tuple(Model("tts", name, "e", "", "stable", 1) for name in models)
    return TurnDone(Outcome.COMPLETED, "", "", (), 0, 0, 1000, end_sample, 0, 0, held, Speculation(0, 0, 0))


def test_what_comes_late_is_late_by_the_sessions_clock() -> None:
    arrivals = Arrivals(1000, 40)
    arrivals.pictures += [(0, 10.01), (40, 10.05), (120, 10.23)]
    arrivals.sound += [(0, 10.01), (20, 10.03), (40, 10.09)]
    sound, pictures = arrivals.late()
    assert [gap.late_ms for gap in sound] == pytest.approx([0, 0, 40], abs=1e-6)
    # A missing one is late until the next comes.
    assert [gap.late_ms for gap in pictures] == pytest.approx([0, 0, 140, 100], abs=1e-6)


def test_turns_fail_are_cut_short_or_handed_over() -> None:
    whole, short, handed_over, failed, apologised = (Turn(1000, first_at=1, end_sample=3000) for _ in range(5))
    whole.done = done(3050, "heart")
    short.done = done(3200, "heart")
    handed_over.done = done(3000, "heart", "joe")
    apologised.done = replace(done(3000), outcome=Outcome.FAILED)
    failed.error = "UNAVAILABLE: gone"
    assert turn_figures("tts", [whole, short, handed_over, failed, apologised]) == {
        "streams": 5,
        "streams_failed": 2,
        "streams_truncated": 1,
        "mixed_chunks": None,
        "turns_handed_over": 1,
        "failures": ["UNAVAILABLE: gone"],
        "turns_by_model": {"heart": 3, "joe": 1},
    }


def test_a_peer_that_cannot_be_had_is_told_with_the_reason() -> None:
    told = report.peer_lines({"name": "p", "version": "1", "not_measured": "no network"})
    assert told == ["peer p 1: no network"]


@pytest.mark.parametrize("arguments", [["--service", "tts"], ["--engine", "real"], ["--models", "a"]])
def test_what_cannot_be_measured_is_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed(arguments)
    assert "--" in capsys.readouterr().err


def test_a_stall_counts_only_where_every_processor_had_it() -> None:
    first = [Stall(1.0, 1.05), Stall(3.0, 3.02)]
    second = [Stall(1.01, 1.06), Stall(5.0, 5.1)]
    assert together([first, second]) == [Stall(1.01, 1.05)]
    assert together([first]) == first
    stalls = Stalls(True, together([first, second]))
    assert stalls.hit(1.03)
    assert stalls.hit(1.12)
    assert not stalls.hit(1.2)
    assert not stalls.hit(3.01)


def test_chunks_that_a_stall_made_late_are_left_out() -> None:
    blocks = Blocks([Block("base", 0.0, 2.0), Block("swap", 2.0, 4.0)])
    found = gaps.by_kind([Gap(1.03, 60.0), Gap(1.5, 1.0), Gap(3.0, 2.0)], blocks, Stalls(True, [Stall(0.98, 1.02)]))
    assert found == {"base": [1.0], "swap": [2.0]}
