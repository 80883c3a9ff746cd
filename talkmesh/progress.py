"""What a person sees while an answer is made."""

from typing import TextIO

from talkmesh import events


class Progress:
    """Shows a turn on a terminal: the question as it is understood, the answer clause by clause, the pictures so far."""

    def __init__(self, out: TextIO, quiet: bool = False) -> None:
        self._out = out
        self._quiet = quiet
        self._live = out.isatty()
        self._received = 0

    def show(self, event: events.Event) -> None:
        """Take an event of the turn."""
        match event:
            case events.Transcript(text, is_final) if text:
                self._line(f"you: {text}", stay=is_final)
            case events.ReplyClause(_, text, emotion):
                mood = "" if emotion is events.Emotion.NEUTRAL else f"  [{emotion.name.lower()}]"
                self._line(f"  » {text}{mood}", stay=True)
            case events.Mp4(data):
                self._received += len(data)
                self._line(f"  … {self._received / 1024:.0f} KiB of video", stay=False)

    def end(self, done: events.TurnDone) -> None:
        """The turn's summary."""
        if done.outcome is events.Outcome.NOTHING_HEARD:
            self._line("nothing could be made out in the recording", stay=True)
            return
        parts = " · ".join(f"{stage.name.replace('_', ' ')} {stage.duration_ms:.0f}" for stage in done.stages)
        self._line(f"first audio {done.first_audio_ms:.0f} ms, first picture {done.first_video_ms:.0f} ms", stay=True)
        self._line(f"  ({parts})", stay=True)

    def _line(self, text: str, stay: bool) -> None:
        """Write a line that stays, or, on a terminal, one that the next line replaces."""
        if self._quiet or not (stay or self._live):
            return
        clear = "\r\x1b[K" if self._live else ""
        self._out.write(f"{clear}{text}" + ("\n" if stay else ""))
        self._out.flush()
