"""A function like another one whose calls go through somebody else: nothing else of it changes.

Where a function must run imperatively, the functions that it calls may still be speculated on.
Its routed copy calls `site.call(f, ...)` where the original calls `f(...)`; `site` is a constant,
one per place in the source. All other bytecode, lines and names are the original's, and functions
that it makes carry their original code.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from types import CodeType, FunctionType

from janus_lite.errors import Code
from janus_lite.record.instrument.locate import (
    COMPREHENSIONS,
    NotInstrumentable,
    compile_like,
    locate,
)
from janus_lite.record.instrument.twin import bind_code

_SITE = "\0janus_lite site {}"
# They look at the frame that calls them.
_KEPT = frozenset({"super", "locals", "globals", "eval", "exec", "vars", "dir"})


def routed(
    function: FunctionType,
    site: Callable[[int], object],
    is_wanted: Callable[[int], bool] = lambda _: True,
) -> FunctionType:
    """Return the routed copy of a function.

    Args:
        function: the original.
        site: makes the constant of a place, by its number in the order of the source; it has a
            method `call(function, /, *args, **kwargs)`.
        is_wanted: whether the calls of a place go through it.

    Raises:
        NotInstrumentable: there is no trustworthy source.
    """
    original = function.__code__
    try:
        node = locate(original)
        router = _Router(is_wanted)
        if isinstance(node, ast.Lambda):
            node.body = router.visit(node.body)
        else:
            node.body = [router.visit(statement) for statement in node.body]
        compiled = compile_like(node, original)
        code = _planted(compiled, original, site)
    except (SyntaxError, LookupError, RecursionError) as error:
        found = f"`{original.co_qualname}` cannot be rewritten: {error}"
        raise NotInstrumentable(Code.SYNTAX, found) from error
    if code.co_freevars != original.co_freevars:
        raise NotInstrumentable(Code.SYNTAX, f"`{original.co_qualname}`: free names differ")
    code = code.replace(co_qualname=original.co_qualname, co_firstlineno=original.co_firstlineno)
    return bind_code(code, function)


class _Router(ast.NodeTransformer):
    """Replaces the function of each call that is wanted; leaves nested functions alone."""

    def __init__(self, is_wanted: Callable[[int], bool]) -> None:
        self._is_wanted = is_wanted
        self._count = 0

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:  # ast's protocol
        return node

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:  # same
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:  # same
        return node

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:  # same
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:  # same
        number = self._count
        self._count += 1
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id in _KEPT:
            return node
        if not self._is_wanted(number):
            return node
        entry = ast.Attribute(ast.Constant(_SITE.format(number)), "call", ast.Load())
        _place(entry, node)
        call = ast.Call(entry, [node.func, *node.args], node.keywords)
        return ast.fix_missing_locations(ast.copy_location(call, node))


def _place(entry: ast.Attribute, call: ast.Call) -> None:
    """Put the entry on the line that tracebacks name for the call: of a method its name's."""
    func = call.func
    is_method = isinstance(func, ast.Attribute)
    line, column = call.lineno, call.col_offset
    if is_method and func.end_lineno is not None and func.end_col_offset is not None:
        line, column = func.end_lineno, func.end_col_offset
    for part in (entry, entry.value):
        part.lineno = part.end_lineno = line
        part.col_offset = part.end_col_offset = column


def _planted(code: CodeType, original: CodeType, site: Callable[[int], object]) -> CodeType:
    """Put sites in place of their names, and the original's functions in place of their copies."""
    prefix = _SITE.format("")
    inner = [c for c in original.co_consts if isinstance(c, CodeType)]
    made = [c for c in code.co_consts if isinstance(c, CodeType)]
    if [c.co_name for c in made] != [c.co_name for c in inner]:
        raise LookupError("nested functions cannot be matched")
    constants: list[object] = []
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            meant = inner.pop(0)
            is_part = constant.co_name in COMPREHENSIONS
            constants.append(_planted(constant, meant, site) if is_part else meant)
        elif isinstance(constant, str) and constant.startswith(prefix):
            constants.append(site(int(constant.removeprefix(prefix))))
        else:
            constants.append(constant)
    return code.replace(co_consts=tuple(constants))
