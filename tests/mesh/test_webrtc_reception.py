"""RTP audio put in order, on a clock that the test moves."""

from collections.abc import Iterator

from gateway.webrtc.reception import Reception

RATE_HZ = 16000
STEP_S, STEP = 0.02, 960
CHUNK = RATE_HZ // 50


class Line:
    """A reception whose packets each hold one number, and what was heard of them."""

    def __init__(self, first: int = 1000) -> None:
        self.first = first
        self.heard = bytearray()
        self.reception = Reception(RATE_HZ, self.decode, self.heard.extend)

    def decode(self, payload: bytes) -> bytes:
        return payload * (2 * CHUNK) if payload != b"?" else b""

    def packet(self, number: int, now_s: float, shown: int | None = None) -> None:
        payload = bytes([number % 250 + 1]) if shown is None else bytes([shown])
        self.reception.arrived(now_s, (self.first + number * STEP) % (1 << 32), payload)

    @property
    def numbers(self) -> list[int | None]:
        """Of each chunk, the number of its packet; None for silence."""
        firsts = self.heard[:: 2 * CHUNK]
        return [value - 1 if value else None for value in firsts]


def ticks(line: Line, begin_s: float, end_s: float) -> Iterator[float]:
    now_s = begin_s
    while now_s < end_s:
        line.reception.tick(now_s)
        yield now_s
        now_s += STEP_S


def test_what_comes_in_order_is_passed_on_at_once() -> None:
    line = Line()
    for number in range(5):
        line.packet(number, number * STEP_S)
        assert line.numbers == [*range(number + 1)]


def test_overtaken_packets_are_put_in_order() -> None:
    line = Line()
    for now, number in enumerate((0, 2, 1, 3)):
        line.packet(number, now * STEP_S)
    assert line.numbers == [0, 1, 2, 3]
    assert not line.reception.losses.silence_ms


def test_a_lost_packet_becomes_silence_of_its_length() -> None:
    line = Line()
    for number in (0, 1, 3, 4, 5, 6):
        line.packet(number, number * STEP_S)
        line.reception.tick(number * STEP_S + 0.01)
    assert line.numbers == [0, 1, None, 3, 4, 5, 6]
    line.packet(2, 7 * STEP_S)
    assert line.numbers == [0, 1, None, 3, 4, 5, 6]
    assert line.reception.losses.late_ms == 20


def test_packets_that_count_around_the_end_of_32_bits() -> None:
    line = Line(first=(1 << 32) - 2 * STEP)
    for number in range(5):
        line.packet(number, number * STEP_S)
    assert line.numbers == [0, 1, 2, 3, 4]


def test_while_nothing_comes_time_goes_on() -> None:
    line = Line()
    line.packet(0, 0.0)
    for _ in ticks(line, 0.0, 2.0):
        pass
    assert 1.8 <= len(line.heard) / 2 / RATE_HZ <= 2.0
    assert set(line.numbers[1:]) == {None}


def test_after_a_stall_what_is_old_is_dropped() -> None:
    line = Line()
    for number in range(10):
        line.packet(number, number * STEP_S)
    for _ in ticks(line, 10 * STEP_S, 3.2):
        pass
    # All that was held up comes at once, and then life goes on.
    for number in range(10, 160):
        line.packet(number, 3.2)
    for number in range(160, 200):
        line.packet(number, number * STEP_S)
        line.reception.tick(number * STEP_S)
    assert abs(len(line.heard) / 2 / RATE_HZ - 4.0) <= 0.15
    assert line.numbers[-40:] == [*range(160, 200)]
    assert line.reception.losses.late_ms > 2500


def test_a_sender_that_counts_anew_is_heard_again() -> None:
    line = Line(first=10_000_000)
    for number in range(10):
        line.packet(number, number * STEP_S)
    line.first = 5000
    for number in range(150):
        now_s = (10 + number) * STEP_S
        line.packet(number, now_s)
        line.reception.tick(now_s)
    assert line.numbers[-50:] == [*range(100, 150)]
    assert abs(len(line.heard) / 2 / RATE_HZ - 3.2) <= 0.25


def test_a_jump_of_the_timestamps_is_no_hour_of_silence() -> None:
    line = Line()
    line.packet(0, 0.0)
    line.packet(180_000, STEP_S, shown=7)
    for _ in ticks(line, STEP_S, 0.1):
        pass
    line.packet(180_001, 0.1, shown=8)
    assert [number for number in line.numbers if number is not None] == [0, 6, 7]
    assert len(line.heard) / 2 / RATE_HZ < 0.3


def test_a_flood_is_not_taken_for_time() -> None:
    line = Line()
    for number in range(500):
        line.packet(number, 0.001 * number)
    assert len(line.heard) / 2 / RATE_HZ < 0.5 + 0.35
    assert line.reception.losses.ahead_ms > 8000


def test_clocks_that_drift_apart_stay_together() -> None:
    for pace in (0.98, 1.02):
        line = Line()
        now_s = 0.0
        for number in range(5000):
            now_s = number * STEP_S * pace
            line.packet(number, now_s)
            line.reception.tick(now_s)
        assert abs(len(line.heard) / 2 / RATE_HZ - now_s) < 0.4


def test_garbage_is_silence() -> None:
    line = Line()
    line.packet(0, 0.0)
    line.reception.arrived(STEP_S, line.first + STEP, b"?")
    line.packet(2, 2 * STEP_S)
    assert line.numbers == [0, None, 2]
