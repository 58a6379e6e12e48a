"""`match` -> `if`: the statement as tests and assignments, before anything is rewritten.

A case becomes an `if` whose test says what the pattern says, in the order in which Python asks.
What a pattern binds is assigned once the whole pattern fits. A guard that fails leads to the next
case. Alternatives that bind names and the positional parts of classes other than the built-in ones
have no rule: they refuse the function.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import TypeVar

from janus_lite.record.instrument.locate import FunctionNode, no_rule

_T = TypeVar("_T", bound=ast.AST)
# A single positional pattern of these stands for the subject itself.
_ITSELF = frozenset("bool bytearray bytes dict float frozenset int list set str tuple".split())
_Bindings = list[tuple[str, ast.expr]]


class Held(ast.Name):
    """A name of ours, which no rule for the names of the program is meant for."""


class Asked(ast.expr):
    """A question that a hook answers.

    Attributes:
        name: of the hook.
        args: expressions of the program.
    """

    _fields = ("name", "args")
    name: str
    args: list[ast.expr]

    def __init__(self, name: str = "", args: Sequence[ast.expr] = ()) -> None:
        super().__init__()
        self.name, self.args = name, list(args)


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
        tests, bindings = _pattern(case.pattern, Held(subject, ast.Load()))
        binds: list[ast.stmt] = [
            ast.Assign([ast.Name(name, ast.Store())], value) for name, value in bindings
        ]
        if case.guard is not None and binds:
            done = self._name()
            body = [_set(done, value=True), *case.body]
            guarded = ast.If(case.guard, body, [])
            held = ast.UnaryOp(ast.Not(), Held(done, ast.Load()))
            new = [
                _set(done, value=False),
                *_if(tests, [*binds, _at(guarded, case.guard)], []),
                ast.If(held, self._cases(others, subject) or [ast.Pass()], []),
            ]
        else:
            tests += [] if case.guard is None else [case.guard]
            new = _if(tests, [*binds, *case.body], self._cases(others, subject))
        return [_at(statement, case.pattern) for statement in new]


def _pattern(pattern: ast.pattern, subject: ast.expr) -> tuple[list[ast.expr], _Bindings]:
    """What has to hold for a pattern, and what it binds then."""
    match pattern:
        case ast.MatchValue(value=value):
            return [_at(ast.Compare(subject, [ast.Eq()], [value]), pattern)], []
        case ast.MatchSingleton(value=singleton):
            return [_at(ast.Compare(subject, [ast.Is()], [ast.Constant(singleton)]), pattern)], []
        case ast.MatchAs(pattern=inner, name=name):
            tests, bindings = ([], []) if inner is None else _pattern(inner, subject)
            return tests, [*bindings, *([] if name is None else [(name, subject)])]
        case ast.MatchOr(patterns=patterns):
            return _alternatives(pattern, patterns, subject), []
        case ast.MatchSequence(patterns=patterns):
            return _sequence(pattern, patterns, subject)
        case ast.MatchMapping():
            return _mapping(pattern, subject)
        case ast.MatchClass():
            return _class(pattern, subject)
    raise no_rule(pattern)


def _alternatives(
    pattern: ast.pattern, patterns: Sequence[ast.pattern], subject: ast.expr
) -> list[ast.expr]:
    found = [_pattern(p, subject) for p in patterns]
    if any(bindings for _, bindings in found):
        raise no_rule(pattern, "alternatives that bind names")
    if not all(tests for tests, _ in found):
        return []  # one of them takes everything
    return [_at(ast.BoolOp(ast.Or(), [_all(tests) for tests, _ in found]), pattern)]


def _sequence(
    pattern: ast.pattern, patterns: Sequence[ast.pattern], subject: ast.expr
) -> tuple[list[ast.expr], _Bindings]:
    stars = [n for n, p in enumerate(patterns) if isinstance(p, ast.MatchStar)]
    least = len(patterns) - len(stars)
    asked = "is_longer_sequence" if stars else "is_sequence"
    tests: list[ast.expr] = [Asked(asked, [subject, ast.Constant(least)])]
    bindings: _Bindings = []
    for number, part in enumerate(patterns):
        behind = number - len(patterns)
        if isinstance(part, ast.MatchStar):
            if part.name is not None:
                stop = ast.Constant(behind + 1 or None)
                items = ast.Subscript(subject, ast.Slice(ast.Constant(number), stop), ast.Load())
                bindings.append((part.name, ast.List([ast.Starred(items, ast.Load())], ast.Load())))
            continue
        index = behind if stars and number > stars[0] else number
        element = ast.Subscript(subject, ast.Constant(index), ast.Load())
        more, inner = _pattern(part, element)
        tests += more
        bindings += inner
    return [_at(t, pattern) for t in tests], [(n, _at(v, pattern)) for n, v in bindings]


def _mapping(pattern: ast.MatchMapping, subject: ast.expr) -> tuple[list[ast.expr], _Bindings]:
    tests: list[ast.expr] = [Asked("is_mapping", [subject])]
    bindings: _Bindings = []
    for key, part in zip(pattern.keys, pattern.patterns, strict=True):
        tests.append(ast.Compare(key, [ast.In()], [subject]))
        more, inner = _pattern(part, ast.Subscript(subject, key, ast.Load()))
        tests += more
        bindings += inner
    if pattern.rest is not None:
        bindings.append((pattern.rest, Asked("without_items", [subject, *pattern.keys])))
    return [_at(t, pattern) for t in tests], [(n, _at(v, pattern)) for n, v in bindings]


def _class(pattern: ast.MatchClass, subject: ast.expr) -> tuple[list[ast.expr], _Bindings]:
    tests: list[ast.expr] = [Asked("is_instance", [subject, pattern.cls])]
    bindings: _Bindings = []
    parts: list[tuple[ast.pattern, ast.expr]] = []
    if pattern.patterns:
        is_itself = isinstance(pattern.cls, ast.Name) and pattern.cls.id in _ITSELF
        if len(pattern.patterns) > 1 or not is_itself:
            raise no_rule(pattern, "positional patterns of a class")
        parts.append((pattern.patterns[0], subject))
    for name, part in zip(pattern.kwd_attrs, pattern.kwd_patterns, strict=True):
        tests.append(Asked("has_attribute", [subject, ast.Constant(name)]))
        parts.append((part, ast.Attribute(subject, name, ast.Load())))
    for part, value in parts:
        more, inner = _pattern(part, value)
        tests += more
        bindings += inner
    return [_at(t, pattern) for t in tests], [(n, _at(v, pattern)) for n, v in bindings]


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
