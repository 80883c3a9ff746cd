"""Who a flag is for."""

import time

import pytest

from gateway.experiments.rules import LONGEST, Attributes, BadRule, like, rule, version

USER: Attributes = {
    "country": "CN",
    "region": "Guangdong",
    "device": "phone",
    "app_version": "2.10.1",
    "tags": frozenset({"beta", "paying"}),
    "turns": 7,
}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ('country == "CN"', True),
        ('country != "CN"', False),
        ('country == "CN" and region == "Guangdong" and device == "phone"', True),
        ('device in ("tablet", "desktop")', False),
        ('device not in ("tablet", "desktop")', True),
        ('"beta" in tags', True),
        ('"staff" not in tags', True),
        ("turns >= 7", True),
        ("turns < 7", False),
        ('app_version >= "2.9"', True),
        ('app_version == "2.10.1.0"', True),
        ('app_version in ("2.10.1",)', True),
        ('not (country == "CN")', False),
        ('like(region, "Guang*")', True),
        ('like(region, "*dong*x")', False),
        ("True", True),
        # What is not known is neither so nor otherwise.
        ('city == "Shenzhen"', None),
        ('city != "Shenzhen"', None),
        ('not city == "Shenzhen"', None),
        ('city == "Shenzhen" or country == "CN"', True),
        ('city == "Shenzhen" and country == "US"', False),
        ('city == "Shenzhen" and country == "CN"', None),
        ('city == "Shenzhen" or country == "US"', None),
    ],
)
def test_what_a_rule_says(text: str, holds: bool | None) -> None:
    assert rule(text)(USER) is holds


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "column"),
        ("country", "expected a comparison"),
        ("contry == 'CN'", "'contry' is not known, expected one of user, country"),
        ("country == 7", "compared with a text"),
        ("turns == '7'", "compared with a number"),
        ("turns == True", "compared with a number"),
        ("country > 'CN'", "is a text"),
        ("tags == 'beta'", "is a set"),
        ("tags in ('beta',)", "is a set"),
        ("'CN' in country", "not a set"),
        ("app_version > 'new'", "no version"),
        ("1 < turns < 3", "one comparison at a time"),
        ("country in ()", "0 alternatives"),
        ("like(turns, '*')", "not a text"),
        ("like(country)", "expected a comparison"),
        ("country == 'CN' if turns else device", "expected a comparison"),
        ("__import__('os').system('true')", "expected a comparison"),
        ("country == f'{turns}'", "expected NAME"),
        ("(lambda: 1)()", "expected a comparison"),
        ("country ==", "column"),
        ("not " * 60 + "True", "nested deeper"),
        ("(" * 900 + "True" + ")" * 900, ""),
        ("a" * (LONGEST + 1), "characters"),
        ("country == 'C\0N'", ""),
    ],
)
def test_what_says_nothing_is_refused_and_told_why(text: str, problem: str) -> None:
    with pytest.raises(BadRule) as caught:
        rule(text)
    assert problem in str(caught.value)


def test_a_version_of_a_user_that_is_none_is_not_known() -> None:
    assert rule('app_version >= "1"')({"app_version": "latest"}) is None


def test_versions() -> None:
    assert version("v1.2.0-rc1") == version("1.2") < version("1.10")


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        ("", "", True),
        ("*", "", True),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("a*b*c", "aXbYc", True),
        ("a*b*c", "acb", False),
        ("*b*b*", "ab", False),
        ("abc", "abcd", False),
    ],
)
def test_patterns(pattern: str, text: str, fits: bool) -> None:
    assert like(pattern)(text) is fits


def test_no_pattern_takes_long() -> None:
    fits = like("a*" * 500 + "b")
    began = time.process_time()
    assert not fits("a" * 50_000)
    assert time.process_time() - began < 1.0
