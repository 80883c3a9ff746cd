"""Whether a text sounds finished: by its punctuation and its last words. Cheap rules, made to err on the side of waiting."""

import re
from enum import IntEnum


class Completeness(IntEnum):
    OPEN = 0
    """Something has to follow."""
    DOUBTFUL = 1
    COMPLETE = 2
    """A whole sentence, as it is written."""


def listed(words: str) -> frozenset[str]:
    return frozenset(words.split())


ENDS = frozenset(".?!。？！।؟")
GOES_ON = frozenset(",;:-–—…，、；：")
DANGLING = listed(
    # articles, possessives, determiners
    "a an the my your his her its our their this these those every each some any no another such"
    # conjunctions, relatives
    " and or but nor because although though unless until while whereas whether if than that which whose as so then"
    # prepositions, verbs and adverbs that seldom end a sentence
    " of to for from with without at by into onto about between among during per via like including"
    " is are was were am be been being has have had will would shall should may might must can could do does did"
    " i'm you're he's she's it's we're they're i'll you'll we'll they'll i've we've let's i'd"
    " very too really quite just also not please um uh er erm hmm mm well"
    " what's who's where's that's there's here's when where how why who whom what"
)
MAY_END_QUESTIONS = listed("of to for from with about at by like is are was were do does did have this that")
MAY_END_SHORT = listed("what why how who when where well no too really please not so")
"""Whole turns of one or two words."""
INTRODUCTIONS = listed("if when while because although though unless since once whenever after before as")
AUXILIARIES = listed("can could will would should do does did is are was were have has am may")
QUESTION_WORDS = listed("what who whom whose which where when why how") | AUXILIARIES
SHORT = 2
LEAST_CLAUSE = 3

HAN = re.compile(r"[\u3400-\u9fff]")
KANA = re.compile(r"[\u3040-\u30ff]")
CHINESE_FINISHED = ("吗", "呢", "吧", "啊", "呀", "嘛", "了", "谢谢", "好的", "没有", "可以", "什么", "哪里", "怎么办")
CHINESE_OPEN = (
    "的", "和", "跟", "与", "或", "或者", "但", "但是", "可是", "因为", "所以", "如果", "要是", "虽然", "然后", "还有",
    "那个", "这个", "就是", "而且", "把", "被", "给", "在", "对", "从", "比", "是", "我想", "我要", "嗯", "呃",
)  # fmt: skip
JAPANESE_FINISHED = ("か", "ね", "よ", "です", "ます", "ました", "ください", "でした", "ません")
JAPANESE_OPEN = ("て", "が", "けど", "を", "に", "は", "の", "と", "で", "から", "ので", "し", "えっと", "あの")


def completeness(text: str, language: str = "en") -> Completeness:
    """Of all that was said in a turn so far, as the ASR writes it. `language` is BCP 47; only English has rules about words
    with spaces between them, other such languages are judged by punctuation."""
    text = text.strip().rstrip("\"'”’»)")
    if not text:
        return Completeness.DOUBTFUL
    if text[-1] in GOES_ON or text.endswith("..."):
        return Completeness.OPEN
    if KANA.search(text):
        return by_endings(text, JAPANESE_FINISHED, JAPANESE_OPEN)
    if HAN.search(text):
        return by_endings(text, CHINESE_FINISHED, CHINESE_OPEN)
    if language.lower().partition("-")[0] not in ("", "en"):
        return Completeness.COMPLETE if text[-1] in ENDS else Completeness.DOUBTFUL
    return english(text)


def by_endings(text: str, finished: tuple[str, ...], open_: tuple[str, ...]) -> Completeness:
    """For languages without spaces, whose particles say more than the punctuation that a model guesses."""
    bare = text.rstrip("".join(ENDS))
    if bare.endswith(finished) or text[-1] in "?？":
        return Completeness.COMPLETE
    if bare.endswith(open_):
        return Completeness.DOUBTFUL if text[-1] in ENDS else Completeness.OPEN
    return Completeness.COMPLETE if text[-1] in ENDS else Completeness.DOUBTFUL


def english(text: str) -> Completeness:
    """The last sentence decides."""
    sentence = re.split(r"(?<=[.?!])\s+", text)[-1]
    words = re.findall(r"[a-z0-9']+", sentence.lower().replace("’", "'"))
    if not words:
        return Completeness.DOUBTFUL
    last, question = words[-1], words[0] in QUESTION_WORDS and text[-1] == "?"
    if last in DANGLING and not may_end(last, words, question):
        return Completeness.OPEN
    if words[0] in INTRODUCTIONS and "," not in sentence and not question:
        return Completeness.OPEN
    if text[-1] not in ENDS:
        return Completeness.DOUBTFUL
    return Completeness.COMPLETE


def may_end(last: str, words: list[str], question: bool) -> bool:
    """Whether a word that seldom ends a sentence may end this one."""
    if len(words) <= SHORT and last in MAY_END_SHORT:
        return True
    return question and last in MAY_END_QUESTIONS and len(words) > LEAST_CLAUSE
