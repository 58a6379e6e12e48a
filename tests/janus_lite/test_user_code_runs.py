"""What the code of a program is asked while it is recorded: as often, and in order, as in Python.

The programs are made at random; every object in them writes down what it is asked.
"""

from __future__ import annotations

import ast
import enum
import importlib.util
import itertools
import random
from collections import UserDict, UserList
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import janus_lite
from janus_lite.record.hooks import TWINS

LOG: list[Any] = []


class Told:
    """An object whose truth and comparisons are code of the user's."""

    def __init__(self, name: str, *, truth: bool) -> None:
        self.name = name
        self.truth = truth

    def __bool__(self) -> bool:
        LOG.append(("bool", self.name))
        return self.truth

    def __lt__(self, other: Told) -> Told:
        LOG.append(("lt", self.name, other.name))
        return self

    def __eq__(self, other: object) -> Any:
        LOG.append(("eq", self.name))
        return self

    __hash__ = None  # type: ignore[assignment]  # as Python sets it

    def __repr__(self) -> str:
        return self.name


def some_expression(draw: random.Random, depth: int) -> str:
    if depth == 0:
        return draw.choice("abcd")
    one, two, three = (some_expression(draw, draw.randrange(depth)) for _ in range(3))
    return draw.choice(
        [
            f"({one} and {two})",
            f"({one} or {two})",
            f"({one} or {two} or {three})",
            f"(not {one})",
            f"({one} if {two} else {three})",
            f"({draw.choice('abcd')} < {draw.choice('abcd')} < {draw.choice('abcd')})",
            f"({draw.choice('abcd')} < {draw.choice('abcd')})",
        ]
    )


STATEMENTS = (
    "return {}",
    "if {}:\n        return 1\n    return 2",
    "while {}:\n        return 1\n    return 2",
    "assert {}\n    return 1",
    "return [1 for _ in (1, 2) if {}]",
    "return not {}",
    "return (1 if {} else 2)",
)


def module_of(path: Path, text: str, **names: Any) -> Any:
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    vars(module).update(names)
    spec.loader.exec_module(module)
    return module


def told(function: Callable[..., Any], *args: Any) -> tuple[str, list[Any]]:
    """What a call gives or raises, and what it asked of the objects."""
    LOG.clear()
    try:
        result = repr(function(*args))
    except Exception as error:
        result = f"{type(error).__name__}: {error}"
    return result, list(LOG)


def twin_of(function: Any) -> Any:
    return TWINS.twin_of(function.__code__).bind(function)


@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_truth_is_asked_for_as_often_as_python_asks(statement: str, tmp_path: Path) -> None:
    draw = random.Random(statement)
    expressions = [some_expression(draw, 3) for _ in range(60)]
    text = "\n".join(
        f"def f{n}(a, b, c, d, x):\n    {statement.format(e)}\n" for n, e in enumerate(expressions)
    )
    module = module_of(tmp_path / "told.py", text)
    for number, expression in enumerate(expressions):
        function = getattr(module, f"f{number}")
        twin = twin_of(function)
        for truths in itertools.product((False, True), repeat=4):
            objects = [Told(n, truth=t) for n, t in zip("abcd", truths, strict=True)]
            assert told(twin, *objects, None) == told(function, *objects, None), expression


@pytest.mark.parametrize("statement", STATEMENTS[:2])
def test_a_recording_asks_as_often_as_python(statement: str, tmp_path: Path) -> None:
    draw = random.Random(statement)
    expressions = [some_expression(draw, 2) for _ in range(25)]
    text = "\n".join(
        f"def f{n}(a, b, c, d, x):\n    x = x + 1\n    {statement.format(e)}\n"
        for n, e in enumerate(expressions)
    )
    module = module_of(tmp_path / "recorded.py", text)
    x = torch.ones(2)
    for number, expression in enumerate(expressions):
        function = getattr(module, f"f{number}")
        for truths in ((True, False, True, False), (False, True, True, False)):
            speculated = janus_lite.speculate(function)
            objects = [Told(n, truth=t) for n, t in zip("abcd", truths, strict=True)]
            for _ in range(3):
                expected = told(function, *objects, x)
                assert told(speculated, *objects, x) == expected, expression


@dataclass
class Pair:
    left: Any
    right: Any


class Point:
    """Attributes by code of the user's, and more than one of them positional."""

    __match_args__ = ("x", "y")

    def __init__(self, x: Any, y: Any) -> None:
        self._x, self._y = x, y

    def __repr__(self) -> str:
        return f"Point({self._x}, {self._y})"

    @property
    def x(self) -> Any:
        LOG.append("x")
        return self._x

    @property
    def y(self) -> Any:
        LOG.append("y")
        if self._y is None:
            raise AttributeError("y")
        return self._y


class Number(int):
    pass


class OnlyOne(int):
    __match_args__ = ("real",)


class Plain:
    def __repr__(self) -> str:
        return type(self).__name__


class WrongArguments(Plain):
    __match_args__ = ["left"]  # noqa: RUF012 - it is the mistake


class TwiceNamed(Plain):
    __match_args__ = ("x", "x")
    x = 1


class Items(list[Any]):
    def __iter__(self) -> Any:
        LOG.append("iter")
        return super().__iter__()

    def __getitem__(self, index: Any) -> Any:
        LOG.append(("item", index))
        return super().__getitem__(index)


class Others(UserList[Any]):
    def __getitem__(self, index: Any) -> Any:
        LOG.append(("item", index))
        return super().__getitem__(index)


class TooLong(UserList[Any]):
    def __len__(self) -> int:
        return 2


class Table(dict[Any, Any]):
    def get(self, key: Any, default: Any = None) -> Any:
        LOG.append(("get", key))
        return super().get(key, default)

    def __getitem__(self, key: Any) -> Any:
        LOG.append(("item", key))
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        LOG.append(("in", key))
        return super().__contains__(key)


class OtherTable(UserDict[Any, Any]):
    def __getitem__(self, key: Any) -> Any:
        LOG.append(("item", key))
        return super().__getitem__(key)


class Claims(Plain):
    """Says that it is a list, which a pattern does not ask."""

    @property  # type: ignore[misc]  # a proxy's lie
    def __class__(self) -> Any:
        LOG.append("class")
        return list


class Names:
    one, two, same = "one", "two", "one"


PATTERNS = (
    "1 | _",
    "1 | 2",
    "None | True | False",
    "'one' | 'two'",
    "Names.one",
    "[]",
    "[_, _]",
    "[_, *_]",
    "[*_]",
    "[1, second]",
    "[1 as first, *rest]",
    "[first, *_]",
    "[*_, last]",
    "[1, *_, 4]",
    "[*most, last]",
    "[1, *middle, last]",
    "[[1, inner], _]",
    "(1, second) | (second, 1)",
    "[1, second] | [_, _, second] | second",
    "{}",
    "{**rest}",
    "{'one': 1}",
    "{'one': 1, 'two': two}",
    "{'one': 1 | 2 as one, **rest}",
    "{'one': [first, *_], **rest}",
    "{Names.two: two, 'one': one}",
    "{Names.one: one, Names.same: same}",
    "{'three': _}",
    "int()",
    "int(number)",
    "int(1 | 2 as number)",
    "Number(number)",
    "OnlyOne(number)",
    "bool(truth)",
    "str(text)",
    "list(items)",
    "dict(table)",
    "Items(items)",
    "Point()",
    "Point(1, 2)",
    "Point(1, y)",
    "Point(3, 4) | Point(1, 2)",
    "Point(x=1, y=2)",
    "Point(1, y=second)",
    "Point(1, x=second)",
    "Point(1, 2, 3)",
    "Point(z=1)",
    "Pair(1, Pair(left, 3))",
    "Pair(left, right)",
    "int(1, 2)",
    "WrongArguments(1)",
    "TwiceNamed(1, 2)",
    "not_a_class()",
    "Told(name='a')",
    "Told(truth=True) as whole",
    "whole",
)


def subjects() -> list[Any]:
    mistaken = WrongArguments()
    return [
        0, 1, True, None, 2.5, "one", "ab", b"ab", Number(1), OnlyOne(2),
        (), [1, 2], (1, [2, 3]), [1, 2, 3, 4], [[1, 5], 6], (4, 1), range(1, 5),
        Items([1, 2]), Items([1, 2, 3, 4]), Others([1, 2, 4]), TooLong([1, 2, 3]), TooLong([1]),
        {}, {"one": 1}, {"one": 1, "two": 2}, {"one": [1, 2], "two": 3, "three": 4},
        Table(one=1, two=2), OtherTable(one=2, two=1),
        Point(1, 2), Point(1, None), Point(3, 4), Pair(1, Pair(2, 3)), Pair(1, 2),
        Told("a", truth=True), Told("b", truth=False), Claims(), TwiceNamed(), mistaken, Names,
    ]  # fmt: skip


def names_of(pattern: str) -> list[str]:
    """The names that a pattern binds."""
    tree = ast.parse(f"match 0:\n    case {pattern}:\n        pass")
    found = [getattr(node, "name", None) or getattr(node, "rest", None) for node in ast.walk(tree)]
    return sorted({name for name in found if name is not None})


def matching(pattern: str, number: int, guard: str) -> str:
    bound = ", ".join(names_of(pattern))
    first = (
        f"def f{number}(subject, x):\n"
        "    match subject:\n"
        f"        case {pattern}{guard}:\n"
        f"            found = ['fits', {bound}]\n"
    )
    others = (
        "        case [1, other] | Point(x=other) | {'one': other}:\n"
        "            found = ['other', other]\n"
        "        case other:\n"
        "            found = ['none']\n"
    )
    takes_everything = pattern in ("1 | _", "whole") or pattern.endswith("| second")
    return first + (others if guard or not takes_everything else "") + "    return found\n"


GUARDS = ("", " if subject != 1", " if Told('g', truth=False) or Told('h', truth=True)")


def match_module(path: Path, guard: str) -> list[Any]:
    text = "\n".join(matching(p, n, guard) for n, p in enumerate(PATTERNS))
    classes = {n: v for n, v in globals().items() if isinstance(v, type)}
    module = module_of(path, text, **classes, not_a_class=1)
    return [getattr(module, f"f{n}") for n in range(len(PATTERNS))]


@pytest.mark.parametrize("guard", GUARDS)
def test_a_pattern_asks_what_python_asks(guard: str, tmp_path: Path) -> None:
    fits = 0
    for function, pattern in zip(match_module(tmp_path / "m.py", guard), PATTERNS, strict=True):
        twin = twin_of(function)
        for subject in subjects():
            expected = told(function, subject, None)
            fits += expected[0].startswith("['fits'")
            assert told(twin, subject, None) == expected, (pattern, subject)
    assert fits > len(PATTERNS) / 2, "most patterns fit nothing: the test says little"


def test_a_recording_matches_as_python_does(tmp_path: Path) -> None:
    x = torch.ones(2)
    for function, pattern in zip(match_module(tmp_path / "r.py", ""), PATTERNS, strict=True):
        for position in range(len(subjects())):
            speculated = janus_lite.speculate(function)
            for _ in range(3):
                expected = told(function, subjects()[position], x)
                assert told(speculated, subjects()[position], x) == expected, (pattern, position)


class Doubled(list[Any]):
    def __getitem__(self, index: Any) -> Any:
        LOG.append(("item", index))
        return super().__getitem__(index) * 2


class Longer(list[Any]):
    def __len__(self) -> int:
        LOG.append("len")
        return super().__len__() + 1


class Backwards(tuple[Any, ...]):
    def __getitem__(self, index: Any) -> Any:
        LOG.append(("item", index))
        return super().__getitem__(-1 - index)

    def __iter__(self) -> Any:
        LOG.append("iter")
        return iter(super().__getitem__(slice(None, None, -1)))


class Tenfold(dict[Any, Any]):
    def __getitem__(self, key: Any) -> Any:
        LOG.append(("item", key))
        return super().__getitem__(key) * 10

    def __contains__(self, key: object) -> bool:
        LOG.append(("in", key))
        return super().__contains__(key) or key == "z"

    def __iter__(self) -> Any:
        LOG.append("iter")
        return iter(sorted(super().__iter__(), reverse=True))


class Counted(set[Any]):
    def __len__(self) -> int:
        LOG.append("len")
        return super().__len__() + 1

    def __iter__(self) -> Any:
        LOG.append("iter")
        return iter(sorted(super().__iter__()))


LISTS = (([2, 3], [2, 5, 7]), ("s[1]", "len(s)", "sum(s)", "sum([v for v in s])", "s == [2, 3]",
         "3 in s", "max(s)", "list(s)[0]", "sorted(s)[-1]", "min(*s)", "s.index(2)", "s[0] + s[1]",
         "torch.tensor(s).sum()", "bool(s)", "len([*s])"))  # fmt: skip
TABLES = (({"a": 2}, {"a": 3, "b": 4}), ("s['a']", "len(s)", "'z' in s", "'b' in s", "len([*s])",
          "sum(s.values())", "s.get('b', 1)", "s == {'a': 2}", "bool(s)", "dict(s)['a']",
          "[k for k in s][0]", "dict(**s)['a']"))  # fmt: skip


class Mapped:
    """A mapping that only says so by its methods."""

    def __init__(self, content: dict[str, Any]) -> None:
        self._content = content

    def keys(self) -> Any:
        LOG.append("keys")
        return self._content.keys()

    def __getitem__(self, key: str) -> Any:
        LOG.append(("item", key))
        return self._content[key]

    def __iter__(self) -> Any:
        LOG.append("iter")
        return iter(self._content)


MAPPINGS = (({"ab": 2}, {"ab": 3, "cd": 4}), ("dict(s)", "dict(**s)", "{**s, 'x': 1}", "list(s)",
            "OrderedDict(s)", "defaultdict(int, s)", "dict(s, z=1)", "dict({'a': 1}) | dict(s)",
            "(d := {}, d.update(s), d)", "sorted(s)", "[s[k] for k in s]"))  # fmt: skip
CONTAINERS: dict[type, tuple[tuple[Any, Any], tuple[str, ...]]] = {
    Doubled: LISTS,
    Longer: LISTS,
    Items: LISTS,
    Backwards: LISTS,
    Tenfold: TABLES,
    Table: TABLES,
    UserDict: MAPPINGS,
    OtherTable: MAPPINGS,
    Mapped: MAPPINGS,
    Counted: (({2, 3}, {2, 5, 6}), ("len(s)", "sum(s)", "3 in s", "s == {2, 3}", "max(s)")),
}


@pytest.mark.parametrize("cls", CONTAINERS, ids=lambda cls: cls.__name__)
def test_a_container_that_is_read_by_its_own_methods(cls: type, tmp_path: Path) -> None:
    (one, other), expressions = CONTAINERS[cls]
    lines = [f"def f{n}(s, x):\n    return x, {e}\n" for n, e in enumerate(expressions)]
    module = module_of(
        tmp_path / "c.py",
        "import torch\nfrom collections import OrderedDict, defaultdict\n" + "\n".join(lines),
    )
    x = torch.ones(2)
    for number, expression in enumerate(expressions):
        function = getattr(module, f"f{number}")
        speculated = janus_lite.speculate(function)
        for content in (one, one, one, other, other, one, other):
            held = cls(content)
            assert told(speculated, held, x) == told(function, held, x), expression


class Level(enum.IntEnum):
    LOW = 1


class Word(enum.StrEnum):
    A = "a"


class Whole(int):
    def __repr__(self) -> str:
        LOG.append("repr")
        return "Whole"


class Line(str):
    def __str__(self) -> str:
        LOG.append("str")
        return "line"


class OwnError(ValueError):
    def __repr__(self) -> str:
        LOG.append("repr")
        return "OwnError"


class Both:
    def __str__(self) -> str:
        LOG.append("str")
        return "str"

    def __repr__(self) -> str:
        LOG.append("repr")
        return "r\u00e9pr"


class OnlyShown:
    def __repr__(self) -> str:
        LOG.append("repr")
        return "only"


class Formatted:
    def __format__(self, specification: str) -> str:
        LOG.append(specification)
        return f"<{specification}>"


class Wrong:
    def __str__(self) -> Any:
        return 3


class Shown(list[Any]):
    def __repr__(self) -> str:
        LOG.append("repr")
        return "shown"


TEXTS = ("{s}", "{s!r}", "{s!s}", "{s!a}", "{s:>6}", "{s!r:>8}", "{s=}", "{s:{s.width}}", "{[s]}",
         "{(s, 1)!r}", "{ {'a': s} }")  # fmt: skip
SHOWN = (Level.LOW, Word.A, Whole(3), Line("x"), OwnError("e"), Both(), OnlyShown(), Formatted(),
         Wrong(), Shown([1]), Pair(1, OnlyShown()), Plain(), int, None, 2.5, "text", [1, "a"],
         {"a": 1}, torch.float32)  # fmt: skip


def test_an_f_string_asks_what_python_asks(tmp_path: Path) -> None:
    forms = [f"f{text!r}" for text in TEXTS] + ["str(s)", "repr(s)", "'%s' % s", "'{}'.format(s)"]
    lines = [f"def f{n}(s, x):\n    return [x], {form}\n" for n, form in enumerate(forms)]
    module = module_of(tmp_path / "texts.py", "\n".join(lines))
    x = torch.ones(2)
    for number, form in enumerate(forms):
        function = getattr(module, f"f{number}")
        twin = twin_of(function)
        for value in SHOWN:
            expected = told(function, value, x)
            assert told(twin, value, x) == expected, (form, value)
            speculated = janus_lite.speculate(function)
            for _ in range(3):
                assert told(speculated, value, x) == expected, (form, value)
