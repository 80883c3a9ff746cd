"""What is sent late, and what is not sent any more; time moves when the test says so."""

from gateway.webrtc.clock import MediaClock

RATE_HZ = 24000
STEP = RATE_HZ // 50


class Hand:
    """Of a clock."""

    now_s = 100.0


def test_what_was_due_in_a_stall_is_left_out() -> None:
    hand = Hand()
    clock = MediaClock(RATE_HZ, lambda: hand.now_s)
    for index in range(50):
        hand.now_s = 100 + index * 0.02
        assert clock.in_time(index * STEP)
    hand.now_s = 104.0
    sent = [index for index in range(50, 200) if clock.in_time(index * STEP)]
    assert sent == [*range(185, 200)]
    assert clock.latest_ms == 199 * 20


def test_a_session_whose_clock_stood_still_goes_on() -> None:
    hand = Hand()
    clock = MediaClock(RATE_HZ, lambda: hand.now_s)
    assert clock.in_time(0)
    sent = []
    for index in range(1, 200):
        hand.now_s = 103 + index * 0.02
        sent.append(clock.in_time(index * STEP))
    assert sent.count(False) * 0.02 <= 0.6
    assert all(sent[-150:])


def test_a_late_beginning_is_no_measure() -> None:
    hand = Hand()
    clock = MediaClock(RATE_HZ, lambda: hand.now_s)
    hand.now_s = 101.0
    assert clock.in_time(0)
    hand.now_s = 100.5 + 0.04
    assert clock.in_time(2 * STEP)
    hand.now_s = 100.5 + 0.06 + 0.35
    assert not clock.in_time(3 * STEP)
