"""Which local names a function may still read: what has to be carried past an `if` or round a loop.

Backward liveness on the AST. Where the analysis is not exact it takes a name for live, which may
keep two paths of a program from being joined, and never joins what differs.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from janus_lite.record.instrument.locate import FunctionNode
from janus_lite.record.instrument.patterns import Asked

Names = frozenset[str]
_NONE: Names = frozenset()


@dataclass(frozen=True, slots=True)
class _Targets:
    """Names live where `break` and `continue` of the innermost loop go on."""

    after: Names = _NONE
    head: Names = _NONE


class Liveness:
    """Live names of one function, by the identity of its `if`, `while` and `for` statements.

    Args:
        function: the function's AST, before it is rewritten.
        captured: names that nested functions share, and those of enclosing functions: always live.

    Attributes:
        after: names live after each statement.
        head: names live where each `while` tests, or each `for` takes its next element.
        assigned: names that each loop assigns.
    """

    def __init__(self, function: FunctionNode, captured: Names) -> None:
        self.after: dict[int, Names] = {}
        self.head: dict[int, Names] = {}
        self.assigned: dict[int, Names] = {}
        self._captured = captured
        if isinstance(function, ast.FunctionDef):
            self._block(function.body, _NONE, _Targets())

    def at_end(self, node: ast.stmt) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Names live after a statement, and which of them it leaves as they were."""
        live = self.after.get(id(node), _NONE)
        changed = _stores([node]) | self._captured
        return tuple(sorted(live)), tuple(sorted(live - changed))

    def at_head(self, node: ast.stmt) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Names live at the head of a loop, and which of them it leaves as they were."""
        live = self.head.get(id(node), _NONE)
        changed = self.assigned.get(id(node), _NONE) | self._captured
        return tuple(sorted(live)), tuple(sorted(live - changed))

    def carried(self, node: ast.stmt) -> tuple[str, ...]:
        """Names that a loop assigns and that its next iteration, or what follows, may read."""
        return tuple(sorted(self.head.get(id(node), _NONE) & self.assigned.get(id(node), _NONE)))

    def _block(self, statements: Sequence[ast.stmt], after: Names, targets: _Targets) -> Names:
        """Names live before `statements`, given those live after them."""
        live = after
        for statement in reversed(statements):
            live = self._statement(statement, live, targets)
        return live

    def _statement(self, node: ast.stmt, after: Names, targets: _Targets) -> Names:
        match node:
            case ast.If():
                self.after[id(node)] = after | self._captured
                arms = self._block(node.body, after, targets)
                live = arms | self._block(node.orelse, after, targets) | _loads([node.test])
                return live - _answers(node.test)
            case ast.While() | ast.For():
                return self._loop(node, after, targets)
            case ast.Return() | ast.Raise():
                return _loads([node])
            case ast.Break():
                return targets.after
            case ast.Continue():
                return targets.head
            case ast.With():
                body = self._block(node.body, after, targets)
                return body | _loads([i.context_expr for i in node.items])
            case ast.Try():
                return self._try(node, after, targets)
            case ast.Assign() | ast.AnnAssign():
                given = [node.value] if node.value is not None else []
                places = node.targets if isinstance(node, ast.Assign) else [node.target]
                return (after - _stores(places)) | _loads([*given, *places])
            case ast.AugAssign(target=ast.Name(id=name)):
                return after | {name} | _loads([node.value])
        return after | _loads([node])

    def _loop(self, node: ast.While | ast.For, after: Names, targets: _Targets) -> Names:
        self.after[id(node)] = after | self._captured
        self.assigned[id(node)] = _stores([node])
        ended = self._block(node.orelse, after, targets)
        bound = _stores([node.target]) if isinstance(node, ast.For) else _NONE
        test = _NONE if isinstance(node, ast.For) else _loads([node.test])
        head = ended | test
        while True:
            body = self._block(node.body, head, _Targets(after, head))
            longer = head | (body - bound) | test
            if longer == head:
                break
            head = longer
        self.head[id(node)] = head | self._captured
        return head | (_loads([node.iter]) if isinstance(node, ast.For) else _NONE)

    def _try(self, node: ast.Try, after: Names, targets: _Targets) -> Names:
        """Any statement of the body may be the last one: nothing in it ends a name's life."""
        final = self._block(node.finalbody, after, targets)
        live = final | _loads([node])
        for part in (node.orelse, node.body, *(h.body for h in node.handlers)):
            self._block(part, live | after, targets)
        return live | after


def _loads(nodes: Iterable[ast.AST]) -> Names:
    """Names that are read, also by functions and comprehensions inside."""
    return frozenset(
        name.id
        for node in nodes
        for name in ast.walk(node)
        if isinstance(name, ast.Name) and not isinstance(name.ctx, ast.Store)
    )


def _answers(test: ast.expr) -> Names:
    """Names of ours that a test gives their values before anything reads them."""
    asked = (node for node in ast.walk(test) if isinstance(node, Asked))
    return frozenset(node.into for node in asked if node.into is not None)


def _stores(nodes: Iterable[ast.AST]) -> Names:
    return frozenset(
        name.id
        for node in nodes
        for name in ast.walk(node)
        if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
    )
