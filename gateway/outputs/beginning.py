"""Where an output begins: at a picture that can be decoded alone, with the sound that belongs to it."""

from collections import deque
from collections.abc import AsyncIterator

from gateway.live.program import Item, Picture, Sound

HELD_S = 2.0
"""Sound that is held for a first picture that comes late."""


async def from_keyframe(items: AsyncIterator[Item], rate_hz: int) -> AsyncIterator[Sound | Picture]:
    """Sound and pictures from the first keyframe on; that comes first, and no sound lies before it.

    What does not lie behind what came before is left out: no muxer takes it.
    """
    held: deque[Sound] = deque()
    begun = False
    shown = heard = 0
    async for item in items:
        if isinstance(item, Sound):
            held.append(item)
        elif isinstance(item, Picture) and (item.start > shown if begun else item.keyframe):
            heard = heard if begun else item.start
            begun, shown = True, item.start
            yield item
        while held and begun:
            for part in behind(held.popleft(), heard):
                heard = part.start + len(part.data) // 2
                yield part
        while held and held[-1].start - held[0].start > HELD_S * rate_hz:
            held.popleft()


def behind(sound: Sound, sample: int) -> list[Sound]:
    """What of a sound lies at or behind a sample: itself, its end, or nothing."""
    early = sample - sound.start
    if early <= 0:
        return [sound]
    rest = sound.data[2 * early :]
    return [Sound(sample, rest, sound.speaking)] if rest else []
