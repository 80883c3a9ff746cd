"""How text is read: every reading, the words as written, sentences, markup, scripts."""

import random

import pytest

from services.runtime.errors import InvalidInput
from services.tts import text
from services.tts.markup import check_script

READINGS = {
    # plain words and punctuation
    "Hello there!": "Hello there!",
    "Wait?! What!?": "Wait? What?",
    "Well... I think—no, wait -- yes.": "Well… I think— no, wait— yes.",
    '"Quoted," she said (quietly).': "Quoted, she said, quietly.",
    "It’s “smart” quotes…": "It's smart quotes…",
    "state-of-the-art": "state-of-the-art",
    "sooooo good": "soo good",
    # cardinals, decimals, signs
    "12 cats": "twelve cats",
    "1,234 dogs": "one thousand two hundred thirty-four dogs",
    "1000000 birds": "one million birds",
    "100,000,000": "one hundred million",
    "3.14159": "three point one four one five nine",
    "0.5 or .5": "zero point five or zero point five",
    "-5 and −3.2": "minus five and minus three point two",
    "007": "zero zero seven",
    "Room 101, page 42": "Room one hundred one, page forty-two",
    # years and decades
    "in 1999 and 2009": "in nineteen ninety-nine and two thousand nine",
    "1905": "nineteen oh five",
    "2026": "twenty twenty-six",
    "the 1990s and the '90s": "the nineteen nineties and the nineties",
    # ordinals, fractions, ranges
    "1st 2nd 3rd 22nd 101st": "first second third twenty-second one hundred first",
    "1/2 cup": "one half cup",
    "3/4 inch": "three quarters inch",
    "1½ miles, ½ of it": "one and a half miles, one half of it",
    "10-20 people": "ten to twenty people",
    "5 – 10": "five to ten",
    "2019–2021": "twenty nineteen to twenty twenty-one",
    "10-20%": "ten to twenty percent",
    "ratio 16:9": "ratio sixteen to nine",
    "10x faster": "ten times faster",
    # telephone numbers
    "call 555-1234": "call five five five, one two three four",
    "(555) 123-4567": "five five five, one two three, four five six seven",
    "+1-555-123-4567": "plus one, five five five, one two three, four five six seven",
    "0800 123 456": "zero eight zero zero one two three four five six",
    "4155551234": "four one five five five five one two three four",
    # money
    "It costs $3.50 today.": "It costs three dollars and fifty cents today.",
    "$1 or $0.99": "one dollar or ninety-nine cents",
    "$1,234.56": "one thousand two hundred thirty-four dollars and fifty-six cents",
    "€20 and £5.25 and ¥500": "twenty euros and five pounds and twenty-five pence and five hundred yen",
    "$3 million": "three million dollars",
    "$1.5M, €2bn": "one point five million dollars, two billion euros",
    "$10-$20": "ten to twenty dollars",
    "$5/month": "five dollars per month",
    "20 USD": "twenty dollars",
    "-$5": "minus five dollars",
    # percent
    "50% or 12.5 % of it": "fifty percent or twelve point five percent of it",
    # times
    "at 3:45 pm": "at three forty-five PM",
    "3:00": "three o'clock",
    "3:05": "three oh five",
    "15:30": "fifteen thirty",
    "9:30am and 5pm": "nine thirty AM and five PM",
    "It is 5 a.m. Wake up!": "It is five AM. Wake up!",
    "open 5–7pm": "open five to seven PM",
    # dates
    "2026-11-22": "November twenty-second, twenty twenty-six",
    "11/22/2026": "November twenty-second, twenty twenty-six",
    "22/11/2026": "November twenty-second, twenty twenty-six",
    "Nov. 22, 2026": "November twenty-second, twenty twenty-six",
    "November 3": "November third",
    "the 4 July": "the fourth of July",
    "Jan 5th": "January fifth",
    # abbreviations
    "I met Dr. Smith and Mr. Jones.": "I met Doctor Smith and Mister Jones.",
    "Main St. in St. Louis": "Main street in Saint Louis",
    "e.g. this, i.e. that, etc.": "for example this, that is that, et cetera.",
    "NASA vs. BBC": "NASA versus BBC",
    "He said no. No. 5 is alive": "He said no. number five is alive",
    "The cat sat. The sun.": "The cat sat. The sun.",
    "The U.S. is big.": "The U.S. is big.",
    "Ph.D.": "P H D.",
    "and/or w/ it": "and or with it",
    "24/7": "twenty-four seven",
    "Henry VIII and Chapter IV": "Henry the eighth and Chapter four",
    # units
    "10 km, 5kg, 1 km": "ten kilometers, five kilograms, one kilometer",
    "20°C or 20 °F": "twenty degrees Celsius or twenty degrees Fahrenheit",
    "60 mph, 100km/h": "sixty miles per hour, one hundred kilometers per hour",
    "-5°C": "minus five degrees Celsius",
    "16GB": "sixteen gigabytes",
    "50 m² of it": "fifty square meters of it",
    # symbols
    "salt & pepper": "salt and pepper",
    "2 + 2 = 4": "two plus two equals four",
    "5 * 3": "five times three",
    "C++ and C#": "C plus plus and C sharp",
    "#1 and #winning @bob": "number one and hashtag winning at bob",
    "π is x²": "pi is x squared",
    # addresses
    "https://www.example.com/docs/": "example dot com slash docs",
    "bob.smith@example.com": "bob dot smith at example dot com",
    "node.js": "node dot JS",
    # letters with digits
    "COVID-19, GPT-4, H2O, mp3, 3D": "COVID nineteen, GPT four, H two O, MP three, three D",
    "snake_case": "snake case",
    # not read
    "Hello 😀 world 👍🏽!": "Hello world!",
    "**Bold** and *italic* and `code`": "Bold and italic and code",
    "[a link](http://x.com/a_b) here": "a link here",
    "# Title\n- one\n- two": "Title. one. two",
    "|a|b|": "a, b,",
    "fine :)": "fine",
}


def spoken(clause: str) -> str:
    return " ".join(word.spoken for sentence in text.read(clause) for word in sentence)


@pytest.mark.parametrize("written", READINGS)
def test_reading(written: str) -> None:
    assert spoken(written) == READINGS[written]


@pytest.mark.parametrize(
    ("clause", "words"),
    [
        ("It costs $3.50 today, Dr. Smith!", ["It", "costs", "$3.50", "today", "Dr.", "Smith"]),
        ("“At 3:45 pm,” he (Bob) said…", ["At", "3:45", "pm", "he", "Bob", "said"]),
        ("**Paris**, [France](http://x.org) 😀", ["Paris", "France"]),
        ("5 - 3 — 50%", ["5", "-", "3", "50%"]),
    ],
)
def test_words_stand_as_they_are_written(clause: str, words: list[str]) -> None:
    assert [word.written for sentence in text.read(clause) for word in sentence] == words


@pytest.mark.parametrize("clause", ["😀👍🏽", "...", "—", " \n ", "** **", "?!", "'", "🇫🇷"])
def test_nothing_to_say(clause: str) -> None:
    assert list(text.read(clause)) == []


def test_sentences_end_at_full_stops_but_not_at_abbreviations() -> None:
    sentences = list(text.read("Dr. Smith came at 5 p.m. on Monday. He left. Why?"))
    assert [len(sentence) for sentence in sentences] == [8, 2, 1]


def test_long_sentences_are_cut_at_marks_and_nothing_is_lost() -> None:
    clause = "one two three, " * 60
    sentences = list(text.read(clause))
    assert all(sum(len(word.spoken) + 1 for word in sentence) <= text.LONGEST_SENTENCE for sentence in sentences)
    assert all(sentence[-1].spoken == "three," for sentence in sentences)
    assert [word.written for sentence in sentences for word in sentence] == clause.replace(",", "").split()


def test_a_long_sentence_without_marks_is_cut_before_a_conjunction() -> None:
    first, *_ = text.read("word " * 40 + "and " + "word " * 40)
    assert len(first) == 40


@pytest.mark.parametrize("word", ["9" * 1000, "a." * 500, "é" * 1000, "x²" * 500])
def test_a_word_that_is_too_long_is_divided(word: str) -> None:
    read = [spoken for sentence in text.read(word) for spoken in sentence]
    assert [spoken.written for spoken in read if spoken.written] == [read[0].written]
    assert all(len(spoken.spoken) <= text.LONGEST_SENTENCE for spoken in read)


def test_anything_can_be_read() -> None:
    dice = random.Random(7)
    letters = "ab Zé09.,:;-–—/$€%°#@&*_()[]'\"!?…+=<>|~^²½π\n\t😀" + "9" * 10
    for _ in range(3000):
        clause = "".join(dice.choices(letters, k=dice.randint(1, 60)))
        for sentence in text.read(clause):
            for word in sentence:
                assert word.written in clause
                assert any(letter.isalpha() for letter in word.spoken), clause


@pytest.mark.parametrize(
    ("clause", "language"),
    [
        ("你好", "Chinese"),
        ("hello 你", "Chinese"),
        ("こんにちは世界", "Japanese"),
        ("世界こんにちは", "Japanese"),
        ("안녕", "Korean"),
        ("Привет", "Cyrillic"),
        ("مرحبا", "Arabic"),
        ("שלום", "Hebrew"),
        ("नमस्ते", "Devanagari"),
        ("Γειά σου", "Greek"),
    ],
)
def test_other_scripts_are_refused_by_name(clause: str, language: str) -> None:
    with pytest.raises(InvalidInput, match=f"clause.text: holds {language} text"):
        check_script(clause)


@pytest.mark.parametrize("clause", ["Zürich café naïve Ærø", "5 µm, 3 Ω, π", "😀 hi", "ｈｉ", "№ 5 ½ ² Ⅳ", ""])
def test_latin_letters_and_symbols_are_not_refused(clause: str) -> None:
    check_script(clause)
