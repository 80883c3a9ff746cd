"""Tokens to text: whole characters only, and never a piece of a stop text."""

from collections.abc import Sequence

import pytest

from services.llm.writing import Detokenizer, Seam, StopTexts, Writer


def as_bytes(ids: Sequence[int]) -> str:
    """A decoder whose tokens are bytes, so that a character may take four of them."""
    return bytes(ids).decode("utf-8", errors="replace")


@pytest.mark.parametrize("text", ["plain", "naïve café", "日本語", "a😀b👩‍👩‍👧c", "\ufeff€"])
def test_pieces_are_whole_characters_and_add_up(text: str) -> None:
    detokenizer = Detokenizer(as_bytes)
    pieces = [detokenizer.push(byte) for byte in text.encode()]
    assert "".join(pieces) + detokenizer.rest() == text
    assert "\ufffd" not in "".join(pieces)


def test_a_character_cut_off_at_the_end_is_not_told() -> None:
    detokenizer = Detokenizer(as_bytes)
    told = [detokenizer.push(byte) for byte in "ab😀".encode()[:-1]]
    assert "".join(told) + detokenizer.rest() == "ab"


def test_whole_text_that_waits_with_half_a_character_comes_at_the_end() -> None:
    texts: dict[tuple[int, ...], str] = {(1,): "one \ufffd"}
    detokenizer = Detokenizer(lambda ids: texts.get(tuple(ids), ""))
    assert detokenizer.push(1) == ""
    assert detokenizer.rest() == "one "


def test_a_token_whose_text_depends_on_the_one_before_it() -> None:
    """Decoders of SentencePiece models drop the first space of what they are given."""
    words = {1: " Hello", 2: " world", 3: "!"}
    detokenizer = Detokenizer(lambda ids: "".join(words[id] for id in ids).removeprefix(" "))
    assert [detokenizer.push(id) for id in (1, 2, 3)] == ["Hello", " world", "!"]


def through(stops: Sequence[str], pieces: Sequence[str]) -> tuple[list[str], bool]:
    writer = StopTexts(stops)
    return [*(writer.push(piece) for piece in pieces), writer.rest()], writer.met


def test_a_stop_text_across_pieces_is_cut_out_with_what_follows() -> None:
    assert through(["User:"], ["Yes. U", "se", "r", ": no", "more"]) == (["Yes. ", "", "", "", "", ""], True)


def test_what_only_began_like_a_stop_text_is_told() -> None:
    assert through(["User:"], ["Yes. Us", "e it", " Us"]) == (["Yes. ", "Use it", " ", "Us"], False)


def test_a_beginning_within_a_beginning() -> None:
    assert through(["aab"], ["aa", "a", "b", "c"]) == (["", "a", "", "", ""], True)


def test_the_earliest_of_several_stop_texts_wins() -> None:
    assert through(["world", "lo"], ["hello world"]) == (["hel", ""], True)


def test_without_stop_texts_nothing_is_held_back() -> None:
    assert through([], ["a", "b"]) == (["a", "b", ""], False)


def test_no_piece_ever_holds_a_part_of_the_stop_text() -> None:
    text, stop = "one two END three", "END"
    for size in range(1, len(text)):
        pieces, met = through([stop], [text[i : i + size] for i in range(0, len(text), size)])
        assert met
        assert "".join(pieces) == "one two "


def test_a_stop_text_in_bytes() -> None:
    writer = Writer(as_bytes, ["→"])
    told = "".join(writer.push(byte) for byte in "a→b".encode())
    assert (told, writer.stopped, writer.rest()) == ("a", True, "")


def test_a_stop_text_that_only_the_end_completes() -> None:
    texts: dict[tuple[int, ...], str] = {(1,): "stop", (1, 2): "stop.\ufffd"}
    writer = Writer(lambda ids: texts.get(tuple(ids), ""), ["stop."])
    assert writer.push(1) == ""
    assert writer.push(2) == ""
    assert writer.rest() == ""
    assert writer.stopped


@pytest.mark.parametrize(
    ("tail", "pieces", "told"),
    [
        ("", [" one"], [" one"]),
        (" ", [" one", " two"], ["one", " two"]),
        (" ", ["one"], ["one"]),
        ("\n", ["\n", "\n", "one"], ["", "\n", "one"]),
        ("\n ", ["\n", " one"], ["", "one"]),
        ("\n ", ["\none"], ["one"]),
        (" ", ["\none"], ["\none"]),
        ("  ", ["", " ", "one two"], ["", "", "one two"]),
    ],
)
def test_white_space_at_a_seam_is_told_once(tail: str, pieces: list[str], told: list[str]) -> None:
    seam = Seam(tail)
    assert [seam.push(piece) for piece in pieces] == told


def stripping(ids: Sequence[int]) -> str:
    """A decoder that drops the space before the first word, as those of SentencePiece do."""
    return bytes(ids).decode().removeprefix(" ")


def test_the_rest_of_a_reply_keeps_the_space_before_its_first_word() -> None:
    assert Writer(stripping, ()).push(ord(" ")) == ""
    writer = Writer(stripping, (), b"One")
    assert "".join(writer.push(letter) for letter in b" two") + writer.rest() == " two"
