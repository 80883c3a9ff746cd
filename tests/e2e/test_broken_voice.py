"""A voice that passes every check and breaks on users, for half of them, on a mesh of its own: it is taken back."""

import argparse

from tools.bench.experimenting import live


async def test_a_broken_voice_is_taken_back_and_nobody_loses_more_than_a_turn() -> None:
    found = await live.measure(argparse.Namespace(workers=4, fails=1.0, compare=6))
    assert found["turns_lost_per_session_max"] == 1
    assert found["sessions_refused"] == 0
    assert found["live_arms"]["heart"]["turns_failed"] == 0
    assert found["live_arms"]["none"]["turns_failed"] == 0, "whoever came after it was taken back"
    assert any("first_audio_ms mean  joe" in line for line in found["compared"])
    verdict = found["verdict"]
    assert (verdict["action"], verdict["variant"]) == ("roll back", "broken")
    assert verdict["arms"]["broken"]["failed"] == verdict["arms"]["broken"]["sessions"] >= 10
    assert "turns failed in" in verdict["reason"]
