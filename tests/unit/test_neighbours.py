"""Rules between models: what breaks one is told with field and values of both sides; what is not known breaks none."""

from collections.abc import Sequence

import pytest

from services.runtime.engine import GoldenValue, Measure
from services.runtime.interface import Interface
from services.runtime.neighbours import check_declared, disagreements, golden_differences

SHAPES = ("jawOpen", "mouthClose")
ASR = Interface(sample_rates_hz=(8000, 48000), languages=("en", "de"))
LLM = Interface(context_tokens=512)
TTS = Interface(sample_rates_hz=(24000,), languages=("en-US",), phonemes=("p", "ɑ"), voices=("heart",))
ANIMATION = Interface(
    sample_rates_hz=(8000, 48000), phonemes=("p", "ɑ", "t"), blendshape_names=SHAPES, styles=("calm",)
)
RENDER = Interface(sample_rates_hz=(8000, 192000), blendshape_names=(*SHAPES, "x"), sizes=(512,), portraits=("mei",))
MESH = {"asr": ASR, "llm": LLM, "tts": TTS, "animation": ANIMATION, "render": RENDER}


def beside(service: str, **changed: Interface) -> dict[str, Sequence[Interface]]:
    """The neighbours of a service, some of them changed."""
    return {name: [one] for name, one in {**MESH, **changed}.items() if name != service}


def but(interface: Interface, **fields: object) -> Interface:
    return interface.model_copy(update=fields)


@pytest.mark.parametrize("service", MESH)
def test_models_that_fit_have_nothing_to_say(service: str) -> None:
    assert disagreements(service, MESH[service], beside(service)) == []


STRANGERS = {
    "phonemes": ("tts", but(TTS, phonemes=("p", "ʘ", "ǃ")), "animation", ("ʘ, ǃ", "p, ɑ, t")),
    "blendshape_names": (
        "animation",
        but(ANIMATION, blendshape_names=("jawOpen", "ears")),
        "render",
        ("ears", "jawOpen"),
    ),
    "languages": ("tts", but(TTS, languages=("fr-CA", "it")), "asr", ("fr-CA, it", "en, de")),
    "sample_rates_hz": ("tts", but(TTS, sample_rates_hz=(24000,)), "animation", ("24000", "8000 to 16000")),
    "sample_rates_hz (render)": ("tts", TTS, "render", ("24000", "32000 to 48000")),
}
LIMITED = {
    "sample_rates_hz": but(ANIMATION, sample_rates_hz=(8000, 16000)),
    "sample_rates_hz (render)": but(RENDER, sample_rates_hz=(32000, 48000)),
}


@pytest.mark.parametrize("rule", STRANGERS)
def test_a_rule_holds_whichever_of_the_two_is_swapped(rule: str) -> None:
    service, stranger, other, values = STRANGERS[rule]
    neighbour = LIMITED.get(rule, MESH[other])
    [told] = disagreements(service, stranger, beside(service, **{other: neighbour}))
    assert told.startswith(f"{rule.partition(' ')[0]}: ")
    assert all(value in told for value in (*values, service, other))
    assert disagreements(other, neighbour, beside(other, **{service: stranger})) == [told]


@pytest.mark.parametrize("rule", STRANGERS)
def test_what_a_neighbour_does_not_tell_breaks_no_rule(rule: str) -> None:
    service, stranger, other, _ = STRANGERS[rule]
    assert disagreements(service, stranger, beside(service, **{other: Interface()})) == []
    assert disagreements(service, stranger, {}) == []


def test_a_voice_without_phonemes_moves_the_face_by_its_audio() -> None:
    assert disagreements("tts", but(TTS, phonemes=()), beside("tts")) == []


def test_every_model_of_a_neighbour_counts_and_a_sentence_comes_once() -> None:
    deaf = but(ANIMATION, phonemes=("t",))
    [told] = disagreements("tts", TTS, {"animation": [ANIMATION, deaf, deaf]})
    assert told == "phonemes: tts gives p, ɑ, animation knows t and not that"


def test_many_values_are_shown_by_example() -> None:
    [told] = disagreements("tts", but(TTS, phonemes=tuple("abcdefgh")), beside("tts"))
    assert "tts gives a, b, c, d, e and 3 more" in told


@pytest.mark.parametrize("rate_hz", [7999, 48001])
def test_a_voice_speaks_at_a_rate_that_the_wire_carries(rate_hz: int) -> None:
    [told] = disagreements("tts", but(TTS, sample_rates_hz=(rate_hz,)), {})
    assert told == f"sample_rates_hz: tts gives {rate_hz}, the wire carries 8000 to 48000"


@pytest.mark.parametrize("rate_hz", [8000, 48000])
def test_the_ends_of_a_range_belong_to_it(rate_hz: int) -> None:
    assert disagreements("tts", but(TTS, sample_rates_hz=(rate_hz,)), beside("tts")) == []


@pytest.mark.parametrize("field", ["sizes", "portraits"])
def test_a_renderer_offers_something_to_look_at(field: str) -> None:
    [told] = disagreements("render", but(RENDER, **{field: ()}), beside("render"))
    assert told.startswith(f"{field}: render offers none")


def test_a_service_without_rules_agrees_with_everybody() -> None:
    assert disagreements("echo", Interface(), beside("")) == []


def test_what_is_declared_is_reported_in_any_order() -> None:
    declared = Interface(sizes=(256, 512), portraits=("mei",), context_tokens=512)
    assert (
        check_declared(declared, Interface(sizes=(512, 256), portraits=("mei",), context_tokens=512, voices=("x",)))
        == []
    )
    told = check_declared(declared, Interface(sizes=(512,), portraits=("mei",), context_tokens=256))
    assert told == [
        "sizes: the engine reports 512, the catalog says 256, 512",
        "context_tokens: the engine reports 256, the catalog says 512",
    ]
    assert check_declared(Interface(), RENDER) == []


@pytest.mark.parametrize(
    ("name", "wanted", "measured", "told"),
    [
        ("text", "yes", "yes", ""),
        ("seconds", (1.0, 2.0), 2.0, ""),
        ("text", "yes", "no", "golden.text: measured 'no', expected 'yes'"),
        ("seconds", (1.0, 2.0), 2.5, "golden.seconds: measured 2.5, expected 1 to 2"),
        ("seconds", (1.0, 2.0), float("nan"), "golden.seconds: measured nan, expected 1 to 2"),
        ("seconds", "two", 2.0, "golden.seconds: measured 2.0, expected 'two'"),
        (
            "text",
            (1.0, 2.0),
            "yes",
            "golden.text: measured the text 'yes', expected a text to compare with, not bounds",
        ),
    ],
)
def test_a_measure_is_the_text_or_within_the_bounds(
    name: str, wanted: GoldenValue, measured: Measure, told: str
) -> None:
    assert golden_differences({name: wanted}, {name: measured, "other": 1.0}) == ([told] if told else [])


def test_a_measure_that_is_not_there_is_told_with_those_there_are() -> None:
    told = golden_differences({"wer": (0.0, 1.0)}, {"word_error_rate": 0.0, "text": ""})
    assert told == ["golden.wer: no such measure; known: word_error_rate, text"]
