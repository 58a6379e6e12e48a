"""`match` -> `if`: the statement as tests and assignments, before anything is rewritten.

A case becomes an `if` whose test asks what the pattern asks, each thing once and in the order in
which CPython asks; hooks answer (`record.matching`). What a pattern binds is assigned once the
whole pattern fits. A guard that fails leads to the next case.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from typing import TypeVar

from janus_lite.record.instrument.locate import FunctionNode, no_rule

_T = TypeVar("_T", bound=ast.AST)


class Held(ast.Name):
    """A name of ours, which no rule for the names of the program is meant for."""


class Asked(ast.expr):
    """A question that a hook answers.

    Attributes:
        name: of the hook.
        args: expressions of the program.
        into: a name of ours that gets the answer; the expression then says whether there is one.
    """

    _fields = ("name", "args")
    name: str
    args: list[ast.expr]
    into: str | None

    def __init__(
        self, name: str = "", args: Sequence[ast.expr] = (), into: str | None = None
    ) -> None:
        super().__init__()
        self.name, self.args, self.into = name, list(args), into


def without_match(function: FunctionNode) -> FunctionNode:
    """The function with `if` in place of each `match` of its own.

    Raises:
        NotInstrumentable: a pattern has no rule.
    """
    found: FunctionNode = _Matches().of(function)
    return found


class _Matches(ast.NodeTransformer):
    """Replaces `match` statements, the innermost first; nested functions stay as they are."""

    def __init__(self) -> None:
        self._names = 0

    def of(self, function: FunctionNode) -> FunctionNode:
        if not isinstance(function, ast.Lambda):
            function.body = [new for s in function.body for new in self._statements(s)]
        return function

    def _statements(self, node: ast.stmt) -> list[ast.stmt]:
        found = self.visit(node)
        return found if isinstance(found, list) else [found]

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:  # ast's
        return node

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:  # ast's
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:  # ast's
        return node

    def visit_Match(self, node: ast.Match) -> list[ast.stmt]:  # ast's
        self.generic_visit(node)
        subject = self._name()
        store = ast.Assign([Held(subject, ast.Store())], node.subject)
        cases = self._cases(node.cases, subject)
        return [_at(store, node), *cases]

    def _name(self) -> str:
        self._names += 1
        return f"__janus_match_{self._names}"

    def _cases(self, cases: Sequence[ast.match_case], subject: str) -> list[ast.stmt]:
        """The statements of the first case and of those after it."""
        if not cases:
            return []
        case, *others = cases
        fit = _Fit(self._name)
        fit.add(case.pattern, subject)
        tests = fit.tests
        binds: list[ast.stmt] = [
            ast.Assign([ast.Name(name, ast.Store())], _held(kept)) for name, kept in fit.bindings
        ]
        if case.guard is not None and binds:
            done = self._name()
            body = [_set(done, value=True), *case.body]
            guarded = ast.If(case.guard, body, [])
            others_follow = ast.UnaryOp(ast.Not(), _held(done))
            new = [
                _set(done, value=False),
                *_if(tests, [*binds, _at(guarded, case.guard)], []),
                ast.If(others_follow, self._cases(others, subject) or [ast.Pass()], []),
            ]
        else:
            tests = tests if case.guard is None else [*tests, case.guard]
            new = _if(tests, [*binds, *case.body], self._cases(others, subject))
        return [_at(statement, case.pattern) for statement in new]


class _Fit:
    """What has to hold for a pattern to fit a value, and what it binds then.

    Attributes:
        tests: asked one after the other, until one fails.
        bindings: names of the program, and the names of ours that hold their values.
    """

    def __init__(self, name: Callable[[], str]) -> None:
        self._name = name
        self.tests: list[ast.expr] = []
        self.bindings: list[tuple[str, str]] = []

    def add(self, pattern: ast.pattern, value: str) -> None:
        """Add what `pattern` says of the value that our name `value` holds."""
        since = len(self.tests)
        match pattern:
            case ast.MatchValue(value=constant):
                self.tests.append(ast.Compare(_held(value), [ast.Eq()], [constant]))
            case ast.MatchSingleton(value=singleton):
                self.tests.append(ast.Compare(_held(value), [ast.Is()], [ast.Constant(singleton)]))
            case ast.MatchAs(pattern=inner, name=name):
                if inner is not None:
                    self.add(inner, value)
                if name is not None:
                    self.bindings.append((name, value))
            case ast.MatchOr(patterns=patterns):
                self._alternatives(patterns, value)
            case ast.MatchSequence(patterns=patterns):
                self._sequence(patterns, value)
            case ast.MatchMapping():
                self._mapping(pattern, value)
            case ast.MatchClass():
                self._class(pattern, value)
            case _:
                raise no_rule(pattern)
        self.tests[since:] = [_at(test, pattern) for test in self.tests[since:]]

    def _ask(self, hook: str, *args: ast.expr) -> None:
        self.tests.append(Asked(hook, args))

    def _get(self, hook: str, *args: ast.expr) -> str:
        """Ask for a value without which the pattern does not fit; return the name that holds it."""
        name = self._name()
        self.tests.append(Asked(hook, args, name))
        return name

    def _alternatives(self, patterns: Sequence[ast.pattern], value: str) -> None:
        """All of them bind the same names; the one that fits gives each its value."""
        kept: dict[str, str] = {}
        ways: list[ast.expr] = []
        for pattern in patterns:
            fit = _Fit(self._name)
            fit.add(pattern, value)
            for name, held in fit.bindings:
                into = kept.setdefault(name, self._name())
                fit.tests.append(_at(Asked("same", [_held(held)], into), pattern))
            ways.append(_all(fit.tests) if fit.tests else ast.Constant(value=True))
        self.tests.append(ast.BoolOp(ast.Or(), ways))
        self.bindings += kept.items()

    def _sequence(self, patterns: Sequence[ast.pattern], value: str) -> None:
        self._ask("is_sequence", _held(value))
        stars = [n for n, p in enumerate(patterns) if isinstance(p, ast.MatchStar)]
        least = len(patterns) - len(stars)
        if least or not stars:
            asked = "has_least_length" if stars else "has_length"
            self._ask(asked, _held(value), ast.Constant(least))
        if not all(_is_wildcard(p) for p in patterns):
            if any(_is_wildcard(patterns[star]) for star in stars):
                self._elements(patterns, value, stars[0])
            else:
                self._unpacked(patterns, value, stars)

    def _elements(self, patterns: Sequence[ast.pattern], value: str, star: int) -> None:
        """`[first, *_, last]`: each element is taken by its index, just before it is looked at."""
        for number, part in enumerate(patterns):
            if number != star and not _is_wildcard(part):
                behind = len(patterns) - number if number > star else None
                index = (ast.Constant(number), ast.Constant(behind))
                self.add(part, self._get("element", _held(value), *index))

    def _unpacked(self, patterns: Sequence[ast.pattern], value: str, stars: list[int]) -> None:
        """`[first, *others]`: all elements are taken before one is looked at."""
        before = stars[0] if stars else len(patterns)
        behind = ast.Constant(len(patterns) - before - 1 if stars else None)
        found = self._get("unpacked", _held(value), ast.Constant(before), behind)
        self._parts(patterns, found)

    def _parts(self, patterns: Sequence[ast.pattern], found: str) -> None:
        """The patterns of the values that the tuple `found` of ours holds."""
        for number, part in enumerate(patterns):
            match part:
                case ast.MatchStar(name=str(name)):
                    self.bindings.append((name, self._part(found, number)))
                case _ if not _is_wildcard(part):
                    self.add(part, self._part(found, number))

    def _part(self, found: str, number: int) -> str:
        return self._get("part", _held(found), ast.Constant(number))

    def _mapping(self, pattern: ast.MatchMapping, value: str) -> None:
        self._ask("is_mapping", _held(value))
        keys = ""
        if pattern.keys:
            self._ask("has_least_length", _held(value), ast.Constant(len(pattern.keys)))
        if pattern.keys or pattern.rest is not None:
            keys = self._get("same", ast.Tuple(pattern.keys, ast.Load()))
        if pattern.keys:
            self._parts(pattern.patterns, self._get("items", _held(value), _held(keys)))
        if pattern.rest is not None:
            rest = self._get("without_items", _held(value), _held(keys))
            self.bindings.append((pattern.rest, rest))

    def _class(self, pattern: ast.MatchClass, value: str) -> None:
        count, names = len(pattern.patterns), map(ast.Constant, pattern.kwd_attrs)
        found = self._get("parts", _held(value), pattern.cls, ast.Constant(count), *names)
        self._parts([*pattern.patterns, *pattern.kwd_patterns], found)


def _is_wildcard(pattern: ast.pattern) -> bool:
    match pattern:
        case ast.MatchAs(pattern=None, name=None) | ast.MatchStar(name=None):
            return True
    return False


def _held(name: str) -> ast.expr:
    return Held(name, ast.Load())


def _all(tests: list[ast.expr]) -> ast.expr:
    return tests[0] if len(tests) == 1 else ast.BoolOp(ast.And(), tests)


def _if(tests: list[ast.expr], body: list[ast.stmt], orelse: list[ast.stmt]) -> list[ast.stmt]:
    return [ast.If(_all(tests), body, orelse)] if tests else body


def _set(name: str, *, value: bool) -> ast.stmt:
    return ast.Assign([Held(name, ast.Store())], ast.Constant(value))


def _at(node: _T, place: ast.AST) -> _T:
    """The node and what is new in it, at the place of another one."""
    for inner in ast.walk(node):
        if not hasattr(inner, "lineno"):
            ast.copy_location(inner, place)
    return node
