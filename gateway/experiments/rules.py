"""Who a flag is for: a small typed language on what is known of a user.

    country == "CN" and region == "Guangdong" and device in ("phone", "tablet")
    app_version >= "2.10" and not "staff" in tags and (turns >= 3 or like(user, "test-*"))

The grammar is a part of Python's, read by Python's own parser and never run: names, texts, numbers, tuples, comparisons,
`and`, `or`, `not`, `like`. There are no regular expressions. Nothing is guessed: a comparison with something that is not
known of the user is neither true nor false, and whoever a rule is not true for is not meant by it (S. C. Kleene's strong
three-valued logic, "On notation for ordinal numbers", 1938).
"""

import ast
import operator
from collections.abc import Callable, Collection, Mapping, Sequence
from enum import Enum, auto
from typing import Any

LONGEST = 2_000
"""Characters of a rule."""
DEEPEST = 20
MOST_ALTERNATIVES = 1_000
Known = str | float | frozenset[str]
Attributes = Mapping[str, Known]
Rule = Callable[[Attributes], bool | None]
"""True, False, or None where it cannot be told."""


class Kind(Enum):
    TEXT = auto()
    NUMBER = auto()
    VERSION = auto()
    """Numbers with dots between; what comes after a "-" or "+" is not looked at."""
    SET = auto()


ATTRIBUTES: Mapping[str, Kind] = {
    "user": Kind.TEXT,
    "country": Kind.TEXT,
    "region": Kind.TEXT,
    "city": Kind.TEXT,
    "language": Kind.TEXT,
    "device": Kind.TEXT,
    "os": Kind.TEXT,
    "app": Kind.TEXT,
    "app_version": Kind.VERSION,
    "channel": Kind.TEXT,
    "portrait": Kind.TEXT,
    "tags": Kind.SET,
    "turns": Kind.NUMBER,
    "sessions": Kind.NUMBER,
    "days_known": Kind.NUMBER,
}
ORDERS: Mapping[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
EQUALITIES = (ast.Eq, ast.NotEq)


class BadRule(ValueError):
    """A rule that says nothing; the message tells where and what was expected."""


def rule(text: str, attributes: Mapping[str, Kind] = ATTRIBUTES) -> Rule:
    """Compile a rule. Raises BadRule."""
    if len(text) > LONGEST:
        raise BadRule(f"the rule has {len(text)} characters, expected at most {LONGEST}")
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except SyntaxError as error:
        raise BadRule(f"column {error.offset or 1}: {error.msg}") from None
    except (ValueError, MemoryError, RecursionError) as error:
        raise BadRule(f"the rule cannot be read: {error}") from None
    return Compiler(attributes).compiled(tree.body, DEEPEST)


def version(text: str) -> tuple[int, ...]:
    """Numbers of a version, without zeros at the end: 1.2 and 1.2.0 are one. Raises ValueError."""
    numbers = [int(part) for part in text.replace("+", "-").partition("-")[0].removeprefix("v").split(".")]
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def like(pattern: str) -> Callable[[str], bool]:
    """Whether a text looks like a pattern in which "*" stands for anything: one pass, no backtracking over parts found."""
    first, *others = pattern.split("*")
    if not others:
        return lambda text: text == first
    *middle, last = others

    def matches(text: str) -> bool:
        if len(text) < len(first) + len(last) or not (text.startswith(first) and text.endswith(last)):
            return False
        at, end = len(first), len(text) - len(last)
        for part in middle:
            found = text.find(part, at, end)
            if found < 0:
                return False
            at = found + len(part)
        return True

    return matches


class Compiler:
    """From Python's syntax tree to a function; what is not named here is not in the language."""

    def __init__(self, attributes: Mapping[str, Kind]) -> None:
        self._attributes = attributes

    def compiled(self, node: ast.expr, deep: int) -> Rule:
        """Raises BadRule."""
        if not deep:
            raise bad(node, f"nested deeper than {DEEPEST}")
        match node:
            case ast.BoolOp(op, values):
                parts = [self.compiled(value, deep - 1) for value in values]
                return every(parts) if isinstance(op, ast.And) else some(parts)
            case ast.UnaryOp(ast.Not(), operand):
                return opposite(self.compiled(operand, deep - 1))
            case ast.Compare(left, [comparison], [right]):
                return self._comparison(node, left, comparison, right)
            case ast.Call(ast.Name("like"), [ast.Name() as name, ast.Constant(str(pattern))], []):
                self._expect(name, Kind.TEXT)
                return known(name.id, like(pattern))
            case ast.Constant(bool(value)):
                return lambda attributes: value
            case ast.Compare():
                raise bad(node, "one comparison at a time: join them by 'and'")
        raise bad(node, 'expected a comparison such as country == "CN", joined by and, or, not')

    def _comparison(self, node: ast.expr, left: ast.expr, comparison: ast.cmpop, right: ast.expr) -> Rule:
        match left, comparison, right:
            case ast.Constant(str(member)), ast.In(), ast.Name() as name:
                self._expect(name, Kind.SET)
                return known(name.id, lambda value: member in value)
            case ast.Constant(str(member)), ast.NotIn(), ast.Name() as name:
                self._expect(name, Kind.SET)
                return known(name.id, lambda value: member not in value)
            case ast.Name() as name, ast.In() | ast.NotIn(), ast.Tuple(elements) | ast.List(elements) | ast.Set(
                elements
            ):
                return self._membership(name, elements, isinstance(comparison, ast.In))
            case ast.Name() as name, _, ast.Constant() as constant if type(comparison) in ORDERS:
                return self._order(name, comparison, constant)
        raise bad(node, 'expected NAME == VALUE, NAME in ("A", "B") or "A" in NAME')

    def _membership(self, name: ast.Name, elements: Sequence[ast.expr], inside: bool) -> Rule:
        kind = self._kind(name)
        if kind is Kind.SET:
            raise bad(name, f'{name.id} is a set: write "A" in {name.id}')
        if not 0 < len(elements) <= MOST_ALTERNATIVES:
            raise bad(name, f"{len(elements)} alternatives, expected 1 to {MOST_ALTERNATIVES}")
        values = frozenset(self._value(name, kind, element) for element in elements)
        read = reader(kind)
        if inside:
            return known(name.id, lambda value: read(value) in values)
        return known(name.id, lambda value: read(value) not in values)

    def _order(self, name: ast.Name, comparison: ast.cmpop, constant: ast.Constant) -> Rule:
        kind = self._kind(name)
        if kind is Kind.SET:
            raise bad(name, f'{name.id} is a set: write "A" in {name.id}')
        if kind is Kind.TEXT and not isinstance(comparison, EQUALITIES):
            raise bad(name, f"{name.id} is a text: it is equal or not, not more or less")
        value, holds, read = self._value(name, kind, constant), ORDERS[type(comparison)], reader(kind)
        return known(name.id, lambda found: holds(read(found), value))

    def _kind(self, name: ast.Name) -> Kind:
        kind = self._attributes.get(name.id)
        if kind is None:
            raise bad(name, f"attribute {name.id!r} is not known, expected one of {', '.join(self._attributes)}")
        return kind

    def _expect(self, name: ast.Name, kind: Kind) -> None:
        if self._kind(name) is not kind:
            raise bad(name, f"{name.id} is not a {kind.name.lower()}")

    def _value(self, name: ast.Name, kind: Kind, node: ast.expr) -> object:
        value = node.value if isinstance(node, ast.Constant) else None
        if kind is Kind.NUMBER and isinstance(value, int | float) and not isinstance(value, bool):
            return value
        if kind is Kind.TEXT and isinstance(value, str):
            return value
        if kind is Kind.VERSION and isinstance(value, str):
            try:
                return version(value)
            except ValueError:
                raise bad(node, f"{value!r} is no version such as 2.10.1") from None
        raise bad(node, f"{name.id} is compared with a {kind.name.lower()}")


def bad(node: ast.expr, problem: str) -> BadRule:
    return BadRule(f"column {node.col_offset + 1}: {problem}")


def reader(kind: Kind) -> Callable[[Known], object]:
    """What a value is compared as. A version that is none raises ValueError."""
    return (lambda value: version(str(value))) if kind is Kind.VERSION else (lambda value: value)


def known(name: str, holds: Callable[..., bool]) -> Rule:
    """A test of one attribute."""

    def test(attributes: Attributes) -> bool | None:
        value = attributes.get(name)
        if value is None:
            return None
        try:
            return holds(value)
        except ValueError:
            return None

    return test


def every(rules: Collection[Rule]) -> Rule:
    def test(attributes: Attributes) -> bool | None:
        unknown = False
        for each in rules:
            holds = each(attributes)
            if holds is False:
                return False
            unknown = unknown or holds is None
        return None if unknown else True

    return test


def some(rules: Collection[Rule]) -> Rule:
    def test(attributes: Attributes) -> bool | None:
        unknown = False
        for each in rules:
            holds = each(attributes)
            if holds:
                return True
            unknown = unknown or holds is None
        return None if unknown else False

    return test


def opposite(rule: Rule) -> Rule:
    def test(attributes: Attributes) -> bool | None:
        holds = rule(attributes)
        return None if holds is None else not holds

    return test
