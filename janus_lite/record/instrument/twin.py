"""Build and cache the instrumented twin of a code object.

The twin keeps the name, file, line numbers, free variables and signature of the original, so that
tracebacks, closures, `super()` and defaults work unchanged. The hook object is planted as a
constant: no name is injected that `locals()` or the user's globals could show.
"""

from __future__ import annotations

import ast
import dis
import threading
from collections import Counter
from dataclasses import dataclass
from types import CodeType, FunctionType

from janus_lite.errors import Code
from janus_lite.record.instrument.liveness import Liveness
from janus_lite.record.instrument.locate import (
    FunctionNode,
    NotInstrumentable,
    compile_like,
    enclosing_class,
    locate,
    nested_functions,
)
from janus_lite.record.instrument.patterns import without_match
from janus_lite.record.instrument.rewrite import HOOKS, Rewriter, Scope


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Twin:
    """An instrumented code object.

    Attributes:
        original: the code object that was instrumented.
        code: its twin.
        hooked_free: free variables whose every assignment is seen by a hook.
        stored_free: other free variables that the function assigns.
    """

    original: CodeType
    code: CodeType
    hooked_free: frozenset[str]
    stored_free: frozenset[str]

    def bind(self, function: FunctionType) -> FunctionType:
        """Return a function like `function` that runs the twin's code."""
        return bind_code(self.code, function)


def bind_code(code: CodeType, function: FunctionType) -> FunctionType:
    """Return a function like `function` that runs other code."""
    twin = FunctionType(
        code,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    twin.__kwdefaults__ = function.__kwdefaults__
    twin.__qualname__ = function.__qualname__
    return twin


class TwinCache:
    """Twins by identity of the original code object (code equality is by value)."""

    def __init__(self, hooks: object) -> None:
        self._hooks = hooks
        self._twins: dict[int, Twin | NotInstrumentable] = {}
        self._keep: list[CodeType] = []
        self._lock = threading.Lock()
        self.code_ids: set[int] = set()
        self.originals: dict[int, CodeType] = {}

    def twin_of(self, code: CodeType) -> Twin:
        """Return the twin of `code`, building it on first sight.

        Raises:
            NotInstrumentable: there is none; the same exception each time.
        """
        found = self._twins.get(id(code))
        if found is None:
            with self._lock:
                found = self._twins.get(id(code)) or self._build(code)
                self._keep.append(code)
                self._twins[id(code)] = found
        if isinstance(found, NotInstrumentable):
            raise found
        return found

    def _build(self, code: CodeType) -> Twin | NotInstrumentable:
        try:
            return self._instrument(code)
        except NotInstrumentable as refusal:
            return refusal.with_traceback(None)
        except (SyntaxError, LookupError, RecursionError) as error:
            return NotInstrumentable(
                Code.SYNTAX, f"`{code.co_qualname}` cannot be rewritten: {error}"
            )

    def _instrument(self, code: CodeType) -> Twin:
        node = without_match(locate(code))
        owner, _ = enclosing_class(code.co_qualname)
        scope = Scope(
            locals=frozenset(code.co_varnames + code.co_cellvars),
            free=frozenset(code.co_freevars),
            stored=_stored_free(code),
            class_name=owner,
        )
        captured = frozenset(code.co_cellvars + code.co_freevars)
        rewriter = Rewriter(scope, Liveness(node, captured))
        assigned = _assignments(node)
        if isinstance(node, ast.Lambda):
            node.body = rewriter.expr(node.body)
        else:
            node.body = rewriter.body(node.body)
        compiled = compile_like(node, code)
        if compiled.co_freevars != code.co_freevars:
            raise NotInstrumentable(Code.SYNTAX, f"`{code.co_qualname}`: free names differ")
        planted = self._plant(compiled).replace(
            co_qualname=code.co_qualname, co_firstlineno=code.co_firstlineno
        )
        self._register(planted, code)
        hooked = frozenset(n for n, times in rewriter.stores.items() if assigned[n] == times)
        stored = scope.stored - hooked
        return Twin(original=code, code=planted, hooked_free=hooked, stored_free=stored)

    def _plant(self, code: CodeType) -> CodeType:
        """Put the hook object in place of its placeholder, in nested code too."""
        constants = tuple(
            self._plant(c)
            if isinstance(c, CodeType)
            else self._hooks
            if isinstance(c, str) and c == HOOKS
            else c
            for c in code.co_consts
        )
        return code.replace(co_consts=constants)

    def _register(self, twin: CodeType, original: CodeType) -> None:
        made, meant = list(nested_functions(twin)), list(nested_functions(original))
        if [c.co_name for c in made] != [c.co_name for c in meant]:
            raise NotInstrumentable(
                Code.SYNTAX, f"`{original.co_qualname}`: nested functions cannot be matched"
            )
        for inner, outer in zip(made, meant, strict=True):
            self.originals[id(inner)] = outer
            self._keep.append(inner)
        self._keep.append(twin)
        self._add_ids(twin)

    def _add_ids(self, code: CodeType) -> None:
        self.code_ids.add(id(code))
        for constant in code.co_consts:
            if isinstance(constant, CodeType) and id(constant) not in self.originals:
                self._add_ids(constant)


def _assignments(function: FunctionNode) -> Counter[str]:
    """How often the text of a function binds or deletes each name, in whatever way."""
    times: Counter[str] = Counter()
    nodes: list[ast.AST] = [function.body] if isinstance(function, ast.Lambda) else [*function.body]
    while nodes:
        node = nodes.pop()
        match node:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                times[name] += 1
            case ast.ExceptHandler(name=str(name)):
                times[name] += 1
            case ast.alias(name=name, asname=other):
                times[(other or name).partition(".")[0]] += 1
            case ast.FunctionDef(name=name, decorator_list=decorators):
                times[name] += 1
                nodes += decorators
        inner = node.args if isinstance(node, ast.FunctionDef | ast.Lambda) else node
        nodes += ast.iter_child_nodes(inner)
    return times


def _stored_free(code: CodeType) -> frozenset[str]:
    return frozenset(
        instruction.argval
        for instruction in dis.get_instructions(code)
        if instruction.opname in {"STORE_DEREF", "DELETE_DEREF"}
        and instruction.argval in code.co_freevars
    )
