"""Find the AST of a code object and prove that it is the right one.

A function's source can be edited after import, shared by several lambdas on one line or hidden
behind decorators. So the candidate is compiled again in an equivalent scope and its bytecode is
compared with the running one: only an exact match is trusted.
"""

from __future__ import annotations
import __future__

import ast
import copy
import dis
import inspect
import linecache
import os
import sys
from collections.abc import Iterator
from functools import lru_cache
from types import CodeType
from typing import Any

from janus_lite.errors import Code

FUTURE_FLAGS = sum(
    getattr(__future__, name).compiler_flag for name in __future__.all_feature_names
) & ~(__future__.nested_scopes.compiler_flag | __future__.generators.compiler_flag)
COMPREHENSIONS = frozenset({"<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>"})
FunctionNode = ast.FunctionDef | ast.Lambda


class NotInstrumentable(Exception):  # noqa: N818  # a signal between our files, never shown
    """The function has no twin: `code` and `found` become the reason.

    Attributes:
        code: the reason code.
        found: what stands in the way.
        line: line in the function's file, 0 when unknown.
    """

    def __init__(self, code: Code, found: str, line: int = 0) -> None:
        super().__init__(found)
        self.code = code
        self.found = found
        self.line = line


def no_rule(node: ast.AST, found: str | None = None) -> NotInstrumentable:
    """The refusal of a construct, by its name or as `found`."""
    what = found or f"`{type(node).__name__}` has no rule"
    return NotInstrumentable(Code.SYNTAX, what, getattr(node, "lineno", 0))


def locate(code: CodeType) -> FunctionNode:
    """Return a fresh AST of the function whose code object is `code`.

    Raises:
        NotInstrumentable: JL0101 when there is no source or it does not match the bytecode,
            JL0103 for coroutines.
    """
    if code.co_flags & (inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
        raise NotInstrumentable(Code.COROUTINE, f"`{code.co_name}` is a coroutine")
    matches = [node for node in _candidates(code) if _same_code(node, code)]
    if not matches:
        raise NotInstrumentable(
            Code.NO_SOURCE,
            f"`{code.co_qualname}` has no source that matches what runs ({code.co_filename})",
        )
    return matches[0]


def source_file(code: CodeType) -> str:
    """Return the file of `code`; frozen standard modules map to their source file."""
    name = code.co_filename
    if name.startswith("<frozen ") and name.endswith(">"):
        module = name[len("<frozen ") : -1]
        file = getattr(sys.modules.get(module), "__file__", None)
        return file or os.path.join(os.path.dirname(os.__file__), module.replace(".", "/") + ".py")
    return name


def _candidates(code: CodeType) -> Iterator[FunctionNode]:
    filename = source_file(code)
    if code.co_name == "<lambda>":
        for node in _lambdas(filename).get(code.co_firstlineno, ()):
            yield _copy(node)
        return
    lines = linecache.getlines(filename)
    start = code.co_firstlineno
    if not 1 <= start <= len(lines):
        return
    try:
        block = inspect.getblock(lines[start - 1 :])
    except (SyntaxError, IndentationError):
        return
    indented = block[0][:1].isspace()
    try:
        tree = ast.parse(("if 1:\n" if indented else "") + "".join(block))
    except SyntaxError:
        return
    ast.increment_lineno(tree, start - 1 - indented)
    for found in ast.walk(tree):
        if isinstance(found, ast.FunctionDef) and found.name == code.co_name:
            yield found
            return


@lru_cache(maxsize=64)
def _lambdas(filename: str) -> dict[int, list[ast.Lambda]]:
    try:
        tree = ast.parse("".join(linecache.getlines(filename)))
    except SyntaxError:
        return {}
    found: dict[int, list[ast.Lambda]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Lambda):
            found.setdefault(node.lineno, []).append(node)
    return found


def _copy(node: ast.Lambda) -> ast.Lambda:
    # The cached tree is shared between calls and the rewriter edits in place.
    return copy.deepcopy(node)


def _same_code(node: FunctionNode, code: CodeType) -> bool:
    # Very long calls compile differently on imported names, so both readings are tried.
    return any(_equal_when_compiled(node, code, imported) for imported in ((), code.co_names))


def _equal_when_compiled(node: FunctionNode, code: CodeType, imported: tuple[str, ...]) -> bool:
    try:
        reference = compile_like(node, code, imported)
    except (SyntaxError, ValueError, LookupError):
        return False
    return (
        _same_instructions(reference, code)
        and reference.co_names == code.co_names
        and reference.co_varnames == code.co_varnames
        and reference.co_freevars == code.co_freevars
        and reference.co_cellvars == code.co_cellvars
        and _plain_constants(reference) == _plain_constants(code)
    )


def _same_instructions(reference: CodeType, code: CodeType) -> bool:
    return reference.co_code == code.co_code or _normal(reference) == _normal(code)


def _normal(code: CodeType) -> list[tuple[str, object]]:
    # The compiler calls methods of names that the *module* imports in another way than methods
    # of other names; the function alone does not tell which names those are.
    return [
        (i.opname.replace("LOAD_METHOD", "LOAD_ATTR"), _operand(i))
        for i in dis.get_instructions(code)
        if i.opname not in {"PUSH_NULL", "CACHE", "EXTENDED_ARG", "NOP"}
    ]


def _operand(instruction: dis.Instruction) -> object:
    if instruction.opcode in dis.hasjrel or instruction.opcode in dis.hasjabs:
        return None  # distances move with the normalised instructions; order and kinds remain
    if isinstance(instruction.argval, CodeType):
        return instruction.argval.co_name
    return repr(instruction.argval)


def _plain_constants(code: CodeType) -> tuple[str, ...]:
    # repr tells 1 from True and 0.0 from -0.0; nested code objects are compared when they run.
    return tuple(repr(c) for c in code.co_consts if not isinstance(c, CodeType | frozenset))


def compile_like(node: FunctionNode, code: CodeType, imported: tuple[str, ...] = ()) -> CodeType:
    """Compile `node` in a scope with the free names, class and future flags of `code`.

    Args:
        node: the function; decorators, defaults and annotations are dropped in place.
        code: the code object to resemble.
        imported: global names that the module around it is taken to import.

    Raises:
        LookupError: the compiled module holds no function of that name.
    """
    statement: ast.stmt
    if isinstance(node, ast.Lambda):
        statement = ast.Expr(node)
    else:
        statement = node
        # The table of lines counts from the first decorator; what stands there is never run.
        first = ast.Constant(None, lineno=code.co_firstlineno, col_offset=0)
        node.decorator_list = [first] if node.decorator_list else []
        node.returns = None
        if hasattr(node, "type_params"):
            node.type_params = []
    _drop_evaluated_parts(node.args)
    imports = [ast.Import([ast.alias(name)]) for name in imported if name.isidentifier()]
    module = ast.Module([*imports, _scope(statement, code)], [])
    for part in module.body:
        ast.copy_location(part, node)
    ast.fix_missing_locations(module)
    compiled = compile(
        module,
        code.co_filename,
        "exec",
        flags=code.co_flags & FUTURE_FLAGS,
        dont_inherit=True,
    )
    found = _find(compiled, code.co_name)
    if found is None:
        raise LookupError(code.co_name)
    return found


def _drop_evaluated_parts(args: ast.arguments) -> None:
    """Defaults and annotations are evaluated where the function is made, not in its code."""
    nothing = ast.Constant(None)
    args.defaults = [nothing for _ in args.defaults]
    args.kw_defaults = [nothing if d is not None else None for d in args.kw_defaults]
    every = [*args.posonlyargs, *args.args, *args.kwonlyargs]
    for arg in [*every, *filter(None, (args.vararg, args.kwarg))]:
        arg.annotation = None


def _scope(statement: ast.stmt, code: CodeType) -> ast.stmt:
    """Nest the statement in a function (and class) that binds its free names."""
    owner, is_method = enclosing_class(code.co_qualname)
    body: list[ast.stmt] = [statement]
    if not is_method and code.co_name not in code.co_freevars and code.co_name.isidentifier():
        body.insert(0, ast.Global([code.co_name]))  # a function knows itself as a global
    if owner is not None:
        inner: list[ast.stmt] = body if is_method else [_function("__janus_method__", body)]
        body = [ast.ClassDef(owner, [], [], inner, [], **_type_params())]
        if owner not in code.co_freevars:  # and so does its class
            body.insert(0, ast.Global([owner]))
    names = [n for n in code.co_freevars if not (n == "__class__" and owner is not None)]
    binds = [ast.Assign([ast.Name(n, ast.Store())], ast.Constant(None)) for n in names]
    return _function("__janus_scope__", [*binds, *body])


def _function(name: str, body: list[ast.stmt]) -> ast.FunctionDef:
    arguments = ast.arguments([], [], None, [], [], None, [])
    return ast.FunctionDef(name, arguments, body, [], **_type_params())


def _type_params() -> dict[str, Any]:
    return {"type_params": []} if sys.version_info >= (3, 12) else {}


def enclosing_class(qualname: str) -> tuple[str | None, bool]:
    """Return the innermost class around a function and whether it is a direct method.

    A component of a qualified name is a function when `<locals>` follows it, else a class.
    """
    parts = qualname.split(".")
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] != "<locals>" and parts[index + 1] != "<locals>":
            return parts[index], index == len(parts) - 2
    return None, False


def _find(code: CodeType, name: str) -> CodeType | None:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            if constant.co_name == name:
                return constant
            if (found := _find(constant, name)) is not None:
                return found
    return None


def nested_functions(code: CodeType) -> Iterator[CodeType]:
    """Yield the functions and lambdas made by `code`, in the order of the source."""
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            if constant.co_name in COMPREHENSIONS:
                yield from nested_functions(constant)
            else:
                yield constant
