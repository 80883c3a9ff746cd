"""Clauses: early, whole, and never in the wrong place."""

import random

import pytest

from gateway.clauses import CAP_CHARS, CAP_WORDS, CEILING_CHARS, ClauseCutter, is_speakable, words
from gateway.markdown import Markdown

PROSE = (
    "Of course, I would be glad to help you with that! Dr. J. Smith paid $1,000.50 for 3.14 litres, e.g. at 5 p.m. "
    'It is small (about 2.5 cm, I think) but strong... He said: "Stop here. Go no further, please." Then he left. '
    "See https://example.com/a,b?c=d.e for more; or ask no. 5, they know everything about it and much more besides."
)


def cut(text: str) -> list[str]:
    cutter = ClauseCutter()
    return cutter.push(text) + cutter.flush()


def letters(text: str) -> str:
    return "".join(text.split())


@pytest.mark.parametrize(
    ("text", "clauses"),
    [
        ("The capital of France is Paris.", ["The capital of France is Paris."]),
        ("It is old. It has many bridges. Yes. It is.", ["It is old.", "It has many bridges.", "Yes. It is."]),
        ("Of course, I can help. What is it?", ["Of course, I can help.", "What is it?"]),
        ("Yes, of course, I can help.", ["Yes, of course,", "I can help."]),
        ("One two three, four, five, six, seven, eight, nine, ten, ok.",
         ["One two three,", "four, five, six, seven, eight, nine, ten, ok."]),
        ("That is very kind — thank you.", ["That is very kind —", "thank you."]),
        ("It takes 82–308 ms or more.", ["It takes 82–308 ms or more."]),
        ("Paris is the capital and the largest city.", ["Paris is the capital and the largest city."]),
        ("It lies between five and ten miles away.", ["It lies between five and ten miles away."]),
        ("Give me 5 or 6.", ["Give me 5 or 6."]),
        ("Here we have Pi. It is 3.14 or so.", ["Here we have Pi.", "It is 3.14 or so."]),
        ("It costs only $1,000,000 now.", ["It costs only $1,000,000 now."]),
        ("I met good Dr. Smith and Mr. J. R. Jones.", ["I met good Dr. Smith and Mr. J. R. Jones."]),
        ("Use fresh fruit, e.g. apples, i.e. not old ones.", ["Use fresh fruit,", "e.g. apples, i.e. not old ones."]),
        ("Please ask for No. 7 there.", ["Please ask for No. 7 there."]),
        ("My answer is no. Ask again.", ["My answer is no.", "Ask again."]),
        ("Well... I do not know. Do you?", ["Well... I do not know.", "Do you?"]),
        ('She said "Yes, I do. Thanks." Then she went.', ['She said "Yes, I do. Thanks."', "Then she went."]),
        ("“Is it far, my friend?” he asked. No one spoke up.", ["“Is it far, my friend?” he asked.", "No one spoke up."]),
        ("We left (late, cold. Very cold.) at last.", ["We left (late, cold. Very cold.)", "at last."]),
        ("Look at http://a.org/b,c.d?e=f, then call.", ["Look at http://a.org/b,c.d?e=f,", "then call."]),
        ("Dinner starts at 10:30 p.m. on Monday.", ["Dinner starts at 10:30 p.m. on Monday."]),
        ("The quick brown U.S. fox jumps high.", ["The quick brown U.S. fox jumps high."]),
        ("法国的首都是巴黎。它位于塞纳河畔，很美。", ["法国的首都是巴黎。", "它位于塞纳河畔，很美。"]),
        ("你想知道更多吗？！“当然！”他说，好的。", ["你想知道更多吗？！", "“当然！”他说，好的。"]),
        ("圆周率约为3.14，对吗？是的。", ["圆周率约为3.14，", "对吗？是的。"]),
    ],
)  # fmt: skip
def test_cuts(text: str, clauses: list[str]) -> None:
    assert cut(text) == clauses


@pytest.mark.parametrize(
    ("text", "clauses"),
    [
        ("# Paris\n**Paris** is *old*.", ["Paris", "Paris is old."]),
        (
            "Here is a list:\n- `one`\n- two\n1. three\n2) four",
            ["Here is a list:", "one", "two", "1. three", "2) four"],
        ),
        ("This is hard\nwrapped text here.\n\nNew paragraph", ["This is hard wrapped text here.", "New paragraph"]),
        ("See [the page](https://a.org/x_y) or [1], ![cat](c.png) now", ["See the page or [1],", "cat now"]),
        ("```python\nx = 1\n```\n---\n> quoted\n> - both", ["x = 1", "quoted", "both"]),
        ("Keep snake_case, 2 * 3, 5*3, C#, #1, -5 and a|b", ["Keep snake_case, 2 * 3,", "5*3, C#, #1, -5 and a|b"]),
        (r"Keep \*these\* and \_those\_", ["Keep *these* and _those_"]),
        ("~~gone~~ but ~5 __left__", ["gone but ~5 left"]),
    ],
)
def test_drops_markup_and_keeps_text(text: str, clauses: list[str]) -> None:
    assert cut(text) == clauses


def test_first_clause_comes_before_the_sentence_ends() -> None:
    cutter = ClauseCutter()
    assert cutter.push("Water boils at a lower temperature") == []
    assert cutter.push(" because the") == ["Water boils at a lower temperature"]
    assert cutter.push(" air is thin there, as") == []


def test_first_clause_does_not_wait_behind_a_comma() -> None:
    assert ClauseCutter().push("When water boils,") == ["When water boils,"]
    assert ClauseCutter().push("It costs about 1,") == []
    assert ClauseCutter().push("Look at www.maps,") == []


@pytest.mark.parametrize("text", ["The capital of ", "The capital of France is ", "I think that the very "])
def test_no_cut_behind_words_that_lean_on_the_next(text: str) -> None:
    assert ClauseCutter().push(text + "x") == []


def test_flush_starts_a_new_reply() -> None:
    cutter = ClauseCutter()
    assert cutter.push("It is so. **Then") == ["It is so."]
    assert cutter.flush() == ["Then"]
    assert cutter.flush() == []
    assert cutter.push("It is so. Then") == ["It is so."]


def test_letter_by_letter_is_as_all_at_once() -> None:
    text = f"# Title\n\n{PROSE}\n\n- **one**\n- [two](http://x.y)\n\n{PROSE}"
    cutter = ClauseCutter()
    assert [clause for char in text for clause in cutter.push(char)] + cutter.flush() == cut(text)


def test_every_character_comes_out_once_in_order() -> None:
    rng = random.Random(7)
    alphabet = [*"abcdeABC  ..,,;!?'\"()“”1234-—:/@。，？的是", " and ", " the ", "\n", " Dr. ", "..."]
    for _ in range(400):
        text = "x" + "".join(rng.choices(alphabet, k=rng.randrange(400))).replace("\n", "\nx ")
        assert letters("".join(cut(text))) == letters(text)


def test_any_markup_split_anyhow_gives_the_same_clauses() -> None:
    rng = random.Random(8)
    alphabet = [*"abAB12  ..,!*_`~#[]()>-+\\\n\n\r|=", "**", "```", "](", "\n- ", "\n1. ", "\n# ", "!["]
    for _ in range(400):
        text = "".join(rng.choices(alphabet, k=rng.randrange(300)))
        places = sorted(rng.choices(range(len(text) + 1), k=5))
        cutter, markdown = ClauseCutter(), Markdown()
        pieces = [text[start:end] for start, end in zip([0, *places], [*places, len(text)], strict=True)]
        assert [clause for piece in pieces for clause in cutter.push(piece)] + cutter.flush() == cut(text)
        plain = markdown.feed(text) + markdown.flush()
        assert letters("".join(cut(text))) == letters(plain)
        assert {char for char in letters(plain) if char.isalnum()} <= set(text)


def test_long_clauses_are_capped_where_a_phrase_begins() -> None:
    text = (
        "This went well. " + "the birds that sang in the old garden were happy because they had found some water " * 9
    )
    later = cut(text)[1:]
    assert all(len(clause) <= CAP_CHARS and words(clause) <= CAP_WORDS for clause in later)
    assert sum(clause.startswith("because") for clause in later) > len(later) // 2
    chinese = cut("好" * 400)
    assert max(map(words, chinese)) <= CAP_WORDS
    assert "".join(chinese) == "好" * 400


def test_one_endless_word_is_bounded_too() -> None:
    assert [len(clause) for clause in cut("x" * 1000)] == [CEILING_CHARS, CEILING_CHARS, 40]
    url = "http://example.org/" + "x" * 300
    assert any(url in clause for clause in cut(f"You will find all of it at {url} or in the book."))


def test_speakable() -> None:
    assert is_speakable("Hm?")
    assert is_speakable("好")
    assert not is_speakable("😀 …")
    assert cut("It is so good. 😀") == ["It is so good.", "😀"]
