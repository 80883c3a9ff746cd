"""What waits on disk: in order, bounded, and readable after everything that may happen to a disk."""

import errno
import os
from pathlib import Path

import pytest

from gateway.outcomes.records import Record, line_of, record_of
from gateway.outcomes.spool import FILES, Spool, spooling
from services.runtime.errors import InvalidInput
from tests.fakes.outcomes import exposure, feedback, some, turn

PLENTY = 10 * 2**20


def drained(spool: Spool, at_once: int = 7) -> list[Record]:
    """All that is there, taken as the outbox does."""
    found: list[Record] = []
    while records := spool.head(at_once):
        found += records
        spool.forget()
    return found


@pytest.mark.parametrize("record", [exposure(), turn(user_text="a\n\0 ü"), feedback(comment="\u2028 {}")])
def test_a_record_is_the_same_after_it_was_a_line(record: Record) -> None:
    line = line_of(record)
    assert record_of(line) == record
    assert line.count(b"\n") == 1


def test_what_was_put_first_comes_first_and_nothing_is_left(tmp_path: Path) -> None:
    with spooling(tmp_path, PLENTY) as spool:
        for begin in range(0, 100, 10):
            spool.append(some(10, begin))
        assert spool.lines == 100
        assert drained(spool) == some(100)
        assert (spool.size, spool.lines, list(tmp_path.glob("*.jsonl"))) == (0, 0, [])


def test_head_says_the_same_until_it_is_forgotten(tmp_path: Path) -> None:
    with spooling(tmp_path, PLENTY) as spool:
        spool.append(some(5))
        assert spool.head(2) == spool.head(2) == some(2)
        spool.append(some(1, 5))
        assert spool.head(2) == some(2)
        spool.forget()
        assert drained(spool) == some(4, 2)


def test_it_survives_its_process(tmp_path: Path) -> None:
    with spooling(tmp_path, PLENTY) as spool:
        spool.append(some(5))
        spool.head(2)
        spool.forget()
    with spooling(tmp_path, PLENTY) as spool:
        spool.append(some(1, 5))
        found = drained(spool)
    assert found == some(6), "what was read already comes again, which does no harm"


def test_when_it_is_full_the_oldest_go_and_are_counted(tmp_path: Path) -> None:
    size = len(line_of(turn(10)))
    with spooling(tmp_path, 4096 * FILES) as spool:
        for number in range(10, 1000):
            spool.append([turn(number)])
            assert spool.size <= 4096 * FILES
        found = drained(spool)
    assert found == some(len(found), 1000 - len(found)), "the newest, without a hole"
    assert spool.dropped == 990 - len(found) > 0
    assert len(found) * size > 4096 * (FILES - 2)


def test_a_record_that_never_fits_does_not_cost_the_others(tmp_path: Path) -> None:
    with spooling(tmp_path, 2000) as spool:
        spool.append([turn(0), turn(1, user_text="x" * 3000), turn(2)])
        assert drained(spool) == [turn(0), turn(2)]
        assert spool.dropped == 1


def test_lines_that_cannot_be_read_are_skipped_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with spooling(tmp_path, PLENTY) as spool:
        spool.append(some(3))
    (path,) = tmp_path.glob("*.jsonl")
    whole = path.read_bytes().splitlines(keepends=True)
    torn = whole[2][: len(whole[2]) // 2]
    path.write_bytes(b"".join([whole[0], b"\xff\xfe rubbish\n", b'{"kind": "secret"}\n', b"\n", whole[1], torn]))
    with spooling(tmp_path, PLENTY) as spool:
        spool.append(some(1, 9))
        assert drained(spool) == [*some(2), *some(1, 9)]
        assert spool.unreadable == 4
    assert "4 lines are skipped" in caplog.text
    assert "secret" not in caplog.text


def test_a_file_of_rubbish_alone_is_no_end(tmp_path: Path) -> None:
    (tmp_path / "000000000001.jsonl").write_bytes(b"\0" * 5000)
    with spooling(tmp_path, PLENTY) as spool:
        spool.append(some(1))
        assert spool.head(1) == some(1)
        assert spool.unreadable == 1


def test_a_file_that_somebody_deletes_is_no_end(tmp_path: Path) -> None:
    with spooling(tmp_path, PLENTY) as spool:
        spool.append(some(3))
    for path in tmp_path.glob("*.jsonl"):
        with spooling(tmp_path, PLENTY) as spool:
            path.unlink()
            spool.append(some(1, 3))
            assert drained(spool) == some(1, 3)
            assert spool.unreadable == 3


def test_a_full_disk_is_told_and_leaves_no_half_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with spooling(tmp_path, PLENTY) as spool:
        spool.append(some(1))

        def full(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(OSError, match="No space"):
                spool.append(some(1, 1))
        spool.append(some(2, 1))
        assert set(drained(spool)) == set(some(3))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_on_a_device_that_is_really_full(tmp_path: Path) -> None:
    with spooling(tmp_path, PLENTY) as spool:
        (tmp_path / "000000000001.jsonl").symlink_to("/dev/full")
        with pytest.raises(OSError):
            spool.append(some(1))
        spool.append(some(2))
        assert drained(spool) == some(2)


def test_a_folder_that_another_gateway_has_is_refused(tmp_path: Path) -> None:
    with spooling(tmp_path, PLENTY), pytest.raises(InvalidInput) as caught, spooling(tmp_path, PLENTY):
        pass
    assert caught.value.field == "outcomes_folder"
    with spooling(tmp_path, PLENTY):
        pass


def test_a_folder_that_cannot_be_is_an_error_later(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    with spooling(tmp_path / "file" / "spool", PLENTY) as spool:
        assert "cannot wait on disk" in caplog.text
        with pytest.raises(OSError):
            spool.append(some(1))
        assert (spool.size, spool.head(1)) == (0, [])
