"""The mood of a clause: which face and voice go with these words.

No lexicon of emotions in the narrow sense (joy, anger, fear …) is both free to use and kept up: NRC's forbids commercial
use, others are abandoned. So this works in two layers, both for English; other languages show emoji and nothing else:

1. Cues: words and phrases by which a speaker shows a feeling ("congratulations", "I'm afraid", "how dare"). They decide
   which of the six emotions it is. Names of feelings ("anger is an emotion") are no cues.
2. Where there is none, VADER's valence (Hutto & Gilbert, ICWSM 2014; lexicon MIT, package `nltk-vader-sentiment`) tells
   happy from sad, but only in what is said to or about the two who are talking, or exclaimed: that a war ended in 1945 is
   told with a plain face.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cache

from vader import SentimentIntensityAnalyzer


class Emotion(Enum):
    """The moods of talkmesh.audio.v1.Expression."""

    NEUTRAL = "neutral"
    HAPPY = "happy"
    SAD = "sad"
    ANGRY = "angry"
    SURPRISED = "surprised"
    FEARFUL = "fearful"
    DISGUSTED = "disgusted"


@dataclass(frozen=True)
class Expression:
    """The mood in which a clause is spoken and shown."""

    emotion: Emotion = Emotion.NEUTRAL
    intensity: float = 0.0
    """0 (not at all) to 1 (fully)."""


# Strong cues speak for themselves; faint ones only in the mouth of somebody personal or loud.
STRONG, FAINT = 0.6, 0.3
# "none": not what they look like.
CUES = """
neutral none: thanks to, make sure, be sure, not sure, for sure, no way to, look out of, look out the, gross
    domestic, gross income, gross profit, gross national, gross weight, great britain, help me understand, hello
    world
happy strong: congratulations, congrats, well done, good job, great job, i'm glad, so glad, glad to, i'm happy,
    happy to, happy for, so happy, delighted, thrilled, overjoyed, i'm excited, so excited, haha, ha ha, hooray,
    hurray, yay, good news, great news, my pleasure, you're welcome, thank you, thanks, hello, hi there, welcome
    back, happy birthday, i love, love it, how lovely, how nice, that's great, that's wonderful, that's fantastic,
    sounds great, sounds wonderful, good luck, don't worry, no worries, nice to meet, 😀, 😃, 😄, 😁, 😊, 🙂, 😍, 🎉, 👏, ❤
happy faint: great, wonderful, fantastic, excellent, perfect, awesome, amazing, lovely, brilliant, sure, of course,
    certainly, hi, welcome, fun, funny, beautiful, proud, enjoy, enjoyed, excited, happy, glad, cheerful
sad strong: i'm sorry, so sorry, sorry to hear, sorry for, my condolences, i apologize, my apologies, unfortunately,
    sadly, regrettably, i regret, i'm sad, so sad, i'm afraid not, i'm afraid i, i'm afraid that, i'm afraid we, i'm
    afraid there, heartbroken, heartbreaking, passed away, i miss, miss you, i feel lonely, bad news, terrible news,
    i'm disappointed, i'm depressed, what a pity, too bad, 😢, 😭, 😔, 😞, 🙁, ☹, 💔
sad faint: sad, sorry, unhappy, lonely, tragic, disappointed, disappointing, hopeless, grief, miserable, alas, died,
    cried
angry strong: how dare, i'm angry, so angry, i'm furious, makes me angry, i'm mad, so mad, outrageous, unacceptable,
    infuriating, fed up, sick of, i hate, shut up, damn, enough of this, 😠, 😡, 🤬
angry faint: angry, furious, annoyed, annoying, irritating, ridiculous, disgraceful, idiot, stupid, hate
surprised strong: wow, whoa, woah, oh my, omg, no way, can't believe, cannot believe, unbelievable, i'm surprised,
    so surprised, i'm amazed, i'm shocked, i'm astonished, what a surprise, believe it or not, surprisingly,
    amazingly, astonishingly, guess what, who would have thought, 😮, 😲, 😯, 🤯
surprised faint: incredible, astonishing, surprising, surprised, unexpected, unexpectedly, shocking
fearful strong: i'm scared, so scared, i'm afraid of, i'm terrified, terrifying, i'm frightened, i'm worried, so
    worried, i fear, i'm nervous, so nervous, watch out, look out, oh no, i'm anxious, 😱, 😨, 😰
fearful faint: scared, afraid, frightening, frightened, scary, dangerous, be careful, beware, danger, warning,
    worried, worrying, nervous, creepy
disgusted strong: disgusting, yuck, yucky, eww, ew, ugh, gross, revolting, repulsive, nauseating, 🤢, 🤮
disgusted faint: nasty, filthy, vile, rotten, stinks, smelly, sickening
"""


def cues(table: str) -> Iterator[tuple[tuple[str, ...], tuple[Emotion, float]]]:
    """Each phrase of the table as its words, with what it shows and how strongly."""
    strengths = {"none": 0.0, "faint": FAINT, "strong": STRONG}
    for row in re.sub(r"\n\s+", " ", table).strip().splitlines():
        head, _, phrases = row.partition(": ")
        emotion, strength = head.split()
        for phrase in phrases.split(", "):
            yield tuple(phrase.split()), (Emotion(emotion), strengths[strength])


def listed(words: str) -> frozenset[str]:
    return frozenset(words.split())


PHRASES = dict(cues(CUES))
LONGEST = max(map(len, PHRASES))
EMOJI = frozenset(phrase[0] for phrase in PHRASES if not phrase[0].isascii())

TOKEN = re.compile(r"[a-z]+(?:['-][a-z]+)*|[" + "".join(EMOJI) + "]")
NEGATIONS = listed("not no never nothing without isn't wasn't aren't weren't don't doesn't didn't won't hardly")
LOUDER = listed("very so really extremely truly absolutely incredibly totally too such deeply terribly")
SOFTER = listed("slightly somewhat bit little fairly rather maybe perhaps")
# In VADER's lexicon, but in the mouth of an assistant only the names of what is to be done.
BUSINESS = listed(
    """sure save saved share shared help helps helped please free like play security secure resolve solution error cancel
    kill stop block fail failed crash crashed wrong number value top interest interesting ok okay"""
)
# Who is talking or talked to, or a verdict. World War I is nobody.
PERSONAL = re.compile(r"(?<!war )\b(?:i|me|my|we|our|you|your|that's|what an?|how)\b(?!-)")
ASTONISHED = re.compile(r".*(?:\?!|!\?)|(?:really|seriously|what|oh)\s*[?!]+")

SHOWN_FROM = 0.3
VALENCE_FLOOR, VALENCE_SCALE = 0.1, 0.7


def express(clause: str) -> Expression:
    """The mood of one clause; neutral with intensity 0 for plain statements. Takes well under a millisecond."""
    text = clause.lower().strip().replace("’", "'").replace("i am ", "i'm ").replace("that is ", "that's ")
    involved = "!" in text or bool(PERSONAL.search(text))
    scores = dict.fromkeys(Emotion, 0.0)
    for emotion, strength in felt(TOKEN.findall(text), involved):
        scores[emotion] += strength
    if ASTONISHED.fullmatch(text):
        scores[Emotion.SURPRISED] += STRONG
    emotion = max(scores, key=lambda found: scores[found])
    score = scores[emotion]
    if not score and involved:
        emotion, score = by_valence(clause)
    if text.endswith("?") and "!" not in text and emotion is not Emotion.SURPRISED:
        # "Are you angry?" is no anger.
        score -= FAINT
    if score <= SHOWN_FROM:
        return Expression()
    return Expression(emotion, round(min(score + 0.12 * min(text.count("!"), 2), 1.0), 2))


def felt(tokens: list[str], involved: bool) -> Iterator[tuple[Emotion, float]]:
    """Every cue in the tokens with its strength, longer phrases first; a word belongs to one cue only."""
    index = 0
    while index < len(tokens):
        for length in range(min(LONGEST, len(tokens) - index), 0, -1):
            if cue := PHRASES.get(tuple(tokens[index : index + length])):
                emotion, strength = cue
                lift = 0.15 if involved and strength == FAINT else 0.0
                yield from coloured(emotion, strength + lift, tokens[max(0, index - 3) : index])
                index += length - 1
                break
        index += 1


def coloured(emotion: Emotion, strength: float, before: list[str]) -> Iterator[tuple[Emotion, float]]:
    """The cue as the words before it make it: "not happy" is sad, "not angry" is nothing."""
    if NEGATIONS & set(before):
        if emotion is Emotion.HAPPY:
            yield Emotion.SAD, strength
        return
    if strength:
        yield emotion, strength + 0.15 * bool(LOUDER & set(before)) - 0.1 * bool(SOFTER & set(before))


def by_valence(clause: str) -> tuple[Emotion, float]:
    """Happy or sad where no cue told more."""
    valence = analyzer().polarity_scores(clause)["compound"]
    strength = max(0.0, abs(valence) - VALENCE_FLOOR) * VALENCE_SCALE
    return (Emotion.HAPPY if valence > 0 else Emotion.SAD), strength


@cache
def analyzer() -> SentimentIntensityAnalyzer:
    """Loaded once (15 ms); it is immutable, so that threads may share it."""
    return SentimentIntensityAnalyzer(extra_lexicon=dict.fromkeys(BUSINESS, 0.0))
