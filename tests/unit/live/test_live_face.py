"""Where frames belong that were ordered ahead and then not wanted."""

from gateway.live.face import Places


def test_nothing_dropped_nothing_moved() -> None:
    places = Places(0)
    assert [places.of(frame) for frame in range(3)] == [0, 1, 2]


def test_frames_after_a_drop_take_the_places_of_the_dropped() -> None:
    places = Places(0)
    places.drop(10, 15)
    assert [places.of(frame) for frame in (9, 10, 14, 15, 16)] == [9, None, None, 10, 11]
    assert places.ahead == 5


def test_several_drops_add_up() -> None:
    places = Places(0)
    places.drop(10, 15)
    places.drop(20, 23)
    assert [places.of(frame) for frame in (19, 20, 22, 23)] == [14, None, None, 15]
    assert places.ahead == 8


def test_a_second_drop_reaches_back_over_the_first() -> None:
    places = Places(0)
    places.drop(10, 15)
    places.drop(15, 18)
    assert [places.of(frame) for frame in (9, 12, 15, 17, 18)] == [9, None, None, None, 10]


def test_a_face_that_begins_later_keeps_its_numbers() -> None:
    places = Places(100)
    places.drop(110, 112)
    assert [places.of(frame) for frame in (99, 100, 111, 112)] == [None, 100, None, 110]


def test_old_drops_are_forgotten_and_new_frames_still_placed() -> None:
    places = Places(0)
    for index in range(1000):
        places.drop(10 * index + 5, 10 * index + 6)
    assert places.of(10 * 999 + 6) == 10 * 999 + 6 - 1000
