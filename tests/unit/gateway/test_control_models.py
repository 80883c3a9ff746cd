"""What a slot may go back to."""

from gateway.catalog import service_and_name, veto_text, with_preload
from gateway.control import models_before
from services.runtime.desired import HistoryEntry, SlotWish


def entry(model: str, before: str = "") -> HistoryEntry:
    return HistoryEntry(wish=SlotWish(model=model), generation=1, model_before=before, at_ms=0)


def test_newest_first_each_once_and_none_that_is_wanted() -> None:
    history = [entry("c", "b"), entry("b", "c"), entry("c", "a"), entry("a", "z")]
    assert list(models_before(history, "c")) == ["b", "a", "z"]
    assert list(models_before(history, "b")) == ["c", "a", "z"]


def test_what_was_there_before_the_first_entry_counts_and_nothing_does_not() -> None:
    assert list(models_before([entry("joe", "heart")], "joe")) == ["heart"]
    assert list(models_before([entry("joe"), entry("")], "joe")) == []


def test_keys_are_taken_apart() -> None:
    assert service_and_name("/talkmesh/v1/models/tts/joe") == ("tts", "joe")
    assert service_and_name("/talkmesh/v1/budgets/tts") == ("tts", "")


def test_vetoes_in_words() -> None:
    assert veto_text('{"actor": "ann", "reason": "hiss"}') == "hiss (ann)"
    assert veto_text("{}") == "no reason given"
    assert veto_text("hiss") == "by an entry that cannot be read"


def test_preload_keeps_order_and_letters() -> None:
    assert with_preload('{"b": "ü", "preload": false, "a": 1}', True) == '{"b": "ü", "preload": true, "a": 1}'
