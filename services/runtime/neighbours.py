"""Whether models understand each other, and whether one is what its catalog entry says: rules, and nothing but rules.

Each rule that is broken becomes a sentence with the field, what this model says and what the other says. A field that one of
two neighbours leaves empty is not known, and what is not known breaks no rule. Services that take a range of rates (asr,
animation, render) tell its two ends, [least, most]; a voice (tts) tells the rate that it has.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from services.runtime.engine import GoldenValue, Measure
from services.runtime.interface import Interface

RATES_HZ = (8_000, 48_000)
"""Rates of speech that the wire carries, the ends included."""
SHOWN = 5
"""Examples in a sentence; the others are counted."""
Rule = Callable[[Interface, Interface], Iterator[str]]


def disagreements(service: str, interface: Interface, neighbours: Mapping[str, Sequence[Interface]]) -> list[str]:
    """Why a model of `service` cannot work with the models of the other services; empty if nothing speaks against it.

    `neighbours` holds the interfaces that serve now or are about to, by service.
    """
    found = list(ALONE[service](interface)) if service in ALONE else []
    for (first, second), rule in TOGETHER.items():
        if service == first:
            pairs = [(interface, other) for other in neighbours.get(second, ())]
        elif service == second:
            pairs = [(other, interface) for other in neighbours.get(first, ())]
        else:
            continue
        found += [sentence for pair in pairs for sentence in rule(*pair)]
    return list(dict.fromkeys(found))


def check_declared(declared: Interface, reported: Interface) -> list[str]:
    """Where an engine is not as its catalog entry says: every field set there must hold the same, in any order."""
    return [
        f"{field}: the engine reports {shown(there)}, the catalog says {shown(said)}"
        for field, said, there in (
            (field, getattr(declared, field), getattr(reported, field)) for field in Interface.model_fields
        )
        if said and unordered(said) != unordered(there)
    ]


def golden_differences(golden: Mapping[str, GoldenValue], measures: Mapping[str, Measure]) -> list[str]:
    """Where the measures of the golden input are not what the catalog says: a text is equal, a number within its bounds."""
    found = []
    for name, wanted in golden.items():
        if name not in measures:
            found.append(f"golden.{name}: no such measure; known: {', '.join(measures) or 'none'}")
        elif problem := unlike(measures[name], wanted):
            found.append(f"golden.{name}: {problem}")
    return found


def unlike(measured: Measure, wanted: GoldenValue) -> str:
    """What is wrong with a measure; empty if nothing is."""
    if isinstance(wanted, str):
        return "" if measured == wanted else f"measured {measured!r}, expected {wanted!r}"
    if isinstance(measured, str):
        return f"measured the text {measured!r}, expected a text to compare with, not bounds"
    least, most = wanted
    return "" if least <= measured <= most else f"measured {measured:g}, expected {least:g} to {most:g}"


def sound_voice(tts: Interface) -> Iterator[str]:
    least, most = RATES_HZ
    if wrong := [rate for rate in tts.sample_rates_hz if not least <= rate <= most]:
        yield f"sample_rates_hz: tts gives {shown(wrong)}, the wire carries {least} to {most}"


def sound_picture(render: Interface) -> Iterator[str]:
    for field, noun in (("sizes", "size"), ("portraits", "portrait")):
        if not getattr(render, field):
            yield f"{field}: render offers none, at least one {noun} is needed"


def spoken_and_moved(tts: Interface, animation: Interface) -> Iterator[str]:
    yield from unknown("phonemes", ("tts gives", tts.phonemes), ("animation knows", animation.phonemes))
    yield from out_of_range(tts, "animation", animation)


def spoken_and_drawn(tts: Interface, render: Interface) -> Iterator[str]:
    yield from out_of_range(tts, "render", render)


def moved_and_drawn(animation: Interface, render: Interface) -> Iterator[str]:
    gives, draws = ("animation gives", animation.blendshape_names), ("render draws", render.blendshape_names)
    yield from unknown("blendshape_names", gives, draws)


def heard_and_spoken(asr: Interface, tts: Interface) -> Iterator[str]:
    ours, theirs = subtags(asr.languages), subtags(tts.languages)
    if ours and theirs and not ours & theirs:
        yield f"languages: asr hears {shown(asr.languages)}, tts speaks {shown(tts.languages)}, they share none"


def unknown(field: str, given: tuple[str, Sequence[str]], known: tuple[str, Sequence[str]]) -> Iterator[str]:
    """A sentence if something that is given is not known to its receiver."""
    (gives, ours), (knows, theirs) = given, known
    strange = [name for name in ours if name not in set(theirs)]
    if theirs and strange:
        yield f"{field}: {gives} {shown(strange)}, {knows} {shown(theirs)} and not that"


def out_of_range(tts: Interface, service: str, other: Interface) -> Iterator[str]:
    if not other.sample_rates_hz:
        return
    least, most = min(other.sample_rates_hz), max(other.sample_rates_hz)
    if wrong := [rate for rate in tts.sample_rates_hz if not least <= rate <= most]:
        yield f"sample_rates_hz: tts gives {shown(wrong)}, {service} takes {least} to {most}"


def subtags(languages: Iterable[str]) -> set[str]:
    """Primary subtags: "en" of "en-US"."""
    return {language.replace("_", "-").partition("-")[0].lower() for language in languages}


def unordered(value: Any) -> Any:
    return frozenset(value) if isinstance(value, tuple) else value


def shown(values: Any) -> str:
    """A value, or a few of many."""
    if not isinstance(values, tuple | list):
        return str(values)
    listed = ", ".join(str(value) for value in values[:SHOWN]) or "none"
    return listed + (f" and {len(values) - SHOWN} more" if len(values) > SHOWN else "")


ALONE: Mapping[str, Callable[[Interface], Iterator[str]]] = {"tts": sound_voice, "render": sound_picture}
"""Rules that a model can break by itself."""
TOGETHER: Mapping[tuple[str, str], Rule] = {
    ("tts", "animation"): spoken_and_moved,
    ("tts", "render"): spoken_and_drawn,
    ("animation", "render"): moved_and_drawn,
    ("asr", "tts"): heard_and_spoken,
}
"""Rules between two services, in the order of their rule's arguments: they hold whichever of the two is swapped."""
