"""Rewrite one function's AST so that each touch of the heap goes through a hook.

What becomes a hook is every expression that can read or write state outside the function or run
code of somebody else: attributes, items, globals, calls, operators, iteration, truth tests,
unpacking, formatting, context managers, imports. Local names stay plain. Bodies of nested
functions stay untouched: they get a twin of their own when they are called.
A node type without a rule refuses the function (deny by default).
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar, TypeVar

from janus_lite.record.instrument.liveness import Liveness
from janus_lite.record.instrument.locate import no_rule
from janus_lite.record.instrument.patterns import Asked, Held

_Node = TypeVar("_Node", bound=ast.AST)
HOOKS = "\0janus_lite hooks"  # constant that the twin replaces by the hook object
_TEMPORARY = "__janus_{}"
_BINARY: dict[type[ast.operator], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.MatMult: "@",
    ast.Div: "/",
    ast.FloorDiv: "//",
    ast.Mod: "%",
    ast.Pow: "**",
    ast.LShift: "<<",
    ast.RShift: ">>",
    ast.BitOr: "|",
    ast.BitXor: "^",
    ast.BitAnd: "&",
}
_UNARY: dict[type[ast.unaryop], str] = {ast.USub: "-", ast.UAdd: "+", ast.Invert: "~"}
_COMPARE: dict[type[ast.cmpop], str] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
}
# Builtins that look at the caller's frame: under a hook they would see the hook's frame.
_FRAME_BUILTINS = frozenset({"locals", "eval", "exec"})
_FRAME_BUILTINS_WITHOUT_ARGUMENTS = frozenset({"vars", "dir"})
# Until 3.11 the compiler tests `a` once in the value of `(a and b) or c`; later ones do it twice.
_TESTS_NESTED_ONCE = sys.version_info < (3, 12)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Names of the function: what is local, what is free; everything else is global.

    `stored` are the free ones that the function assigns.
    """

    locals: frozenset[str]
    free: frozenset[str]
    stored: frozenset[str]
    class_name: str | None


class Rewriter:
    """Rewrites statements and expressions of one function; see the module docstring."""

    def __init__(self, scope: Scope, liveness: Liveness) -> None:
        self._liveness = liveness
        self.stores: Counter[str] = Counter()  # of free variables that became a hook
        self._scope = scope
        self._comprehension_names: list[set[str]] = []
        self._temporaries = 0
        self._in_iterable = False
        self._globals: set[str] = set()

    def body(self, statements: Iterable[ast.stmt]) -> list[ast.stmt]:
        """Rewrite a list of statements."""
        rewritten: list[ast.stmt] = []
        for statement in statements:
            rule = self._STATEMENTS.get(type(statement))
            if rule is None:
                raise no_rule(statement)
            rewritten.extend(_locate(new, statement) for new in rule(self, statement))
        return rewritten

    def expr(self, node: ast.expr) -> ast.expr:
        """Rewrite one expression."""
        rule = self._EXPRESSIONS.get(type(node))
        if rule is None:
            raise no_rule(node)
        return _locate(rule(self, node), node)

    def _exprs(self, nodes: Iterable[ast.expr]) -> list[ast.expr]:
        return [self.expr(node) for node in nodes]

    # ------------------------------------------------------------------ names

    def _is_global(self, name: str) -> bool:
        if any(name in bound for bound in self._comprehension_names):
            return False
        return name not in self._scope.locals and name not in self._scope.free

    def _name(self, node: ast.Name) -> ast.expr:
        if self._is_stored_free(node.id):
            return _hook("load_free", node, ast.Constant(node.id))
        if self._is_free(node.id) and node.id != "__class__":
            return _hook("load_outer", node, ast.Constant(node.id))
        # `super` must stay a plain name: the compiler makes the `__class__` cell for it.
        if not self._is_global(node.id) or node.id in {"super", "__class__", "__debug__"}:
            return node
        return _hook("load_global", ast.Constant(self._mangle(node.id)))

    def _is_stored_free(self, name: str) -> bool:
        return name in self._scope.stored and self._is_free(name)

    def _is_free(self, name: str) -> bool:
        is_bound = any(name in bound for bound in self._comprehension_names)
        return name in self._scope.free and not is_bound

    def _mangle(self, name: str) -> str:
        owner = self._scope.class_name
        if owner is None or not name.startswith("__") or name.endswith("__"):
            return name
        stripped = owner.lstrip("_")
        return f"_{stripped}{name}" if stripped else name

    def _temporary(self) -> str:
        self._temporaries += 1
        return _TEMPORARY.format(self._temporaries)

    # ------------------------------------------------------------ expressions

    def _plain(self, node: ast.expr) -> ast.expr:
        return node

    def _attribute(self, node: ast.Attribute) -> ast.expr:
        name = ast.Constant(self._mangle(node.attr))
        return _hook("load_attr", self.expr(node.value), name)

    def _subscript(self, node: ast.Subscript) -> ast.expr:
        return _hook("load_item", self.expr(node.value), self._index(node.slice))

    def _index(self, node: ast.expr) -> ast.expr:
        if isinstance(node, ast.Slice):
            parts = (node.lower, node.upper, node.step)
            return _hook("slice", *(self.expr(p) if p else ast.Constant(None) for p in parts))
        if isinstance(node, ast.Tuple) and any(isinstance(e, ast.Slice) for e in node.elts):
            return ast.Tuple([self._index(e) for e in node.elts], ast.Load())
        return self.expr(node)

    def _call(self, node: ast.Call) -> ast.expr:
        if isinstance(node.func, ast.Name) and self._is_global(node.func.id):
            name, bare = node.func.id, not node.args and not node.keywords
            if name == "super" and bare:
                return node
            if name in _FRAME_BUILTINS or (bare and name in _FRAME_BUILTINS_WITHOUT_ARGUMENTS):
                raise no_rule(node, f"`{name}()` looks at the caller's frame")
            if name == "globals" and bare:
                return _hook("load_globals")
        keywords = [
            ast.keyword(k.arg, self._argument(k.value))
            if k.arg
            else ast.keyword(None, _hook("spread_mapping", self.expr(k.value)))
            for k in node.keywords
        ]
        function = self.expr(node.func)
        arguments = [
            self._argument(a) if isinstance(a, ast.JoinedStr) else self._elements([a])[0]
            for a in node.args
        ]
        return _hook("call", function, *arguments, keywords=keywords)

    def _argument(self, node: ast.expr) -> ast.expr:
        """An argument of a call; of an f-string the call may get its parts."""
        if not isinstance(node, ast.JoinedStr):
            return self.expr(node)
        parts = [
            self._shown("piece", p) if isinstance(p, ast.FormattedValue) else p for p in node.values
        ]
        return _locate(_hook("text", *parts), node)

    def _elements(self, nodes: Iterable[ast.expr]) -> list[ast.expr]:
        return [
            ast.Starred(_hook("spread", self.expr(n.value)), ast.Load())
            if isinstance(n, ast.Starred)
            else self.expr(n)
            for n in nodes
        ]

    def _binary(self, node: ast.BinOp) -> ast.expr:
        symbol = ast.Constant(_BINARY[type(node.op)])
        return _hook("binary", symbol, self.expr(node.left), self.expr(node.right))

    def _unary(self, node: ast.UnaryOp) -> ast.expr:
        if isinstance(node.op, ast.Not):
            return ast.UnaryOp(ast.Not(), _hook("test", self.expr(node.operand)))
        if isinstance(node.operand, ast.Constant):
            return node
        return _hook("unary", ast.Constant(_UNARY[type(node.op)]), self.expr(node.operand))

    def _test(self, node: ast.expr) -> ast.expr:
        """An expression that is only tested: each of its parts at most once, as Python jumps."""
        new: ast.expr
        match node:
            case ast.Constant():
                return node
            case ast.BoolOp(op=op, values=values):
                new = ast.BoolOp(op, [self._test(value) for value in values])
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                new = ast.UnaryOp(ast.Not(), self._test(operand))
            case ast.Compare(ops=[_, _, *_]):
                new = ast.BoolOp(ast.And(), [_hook("test", link) for link in self._links(node)])
            case ast.IfExp(body=body, orelse=orelse) if _is_tested_in_parts(body, orelse):
                new = ast.IfExp(self._test(node.test), self._test(body), self._test(orelse))
            case _:
                new = _hook("test", self.expr(node))
        return _locate(new, node)

    def _bool_op(self, node: ast.BoolOp) -> ast.expr:
        """`a and b` as `b if test(a) else a`, so that a truth test by user code is seen."""
        *first, last = node.values
        result = self.expr(last)
        for original in reversed(first):
            if self._in_iterable or isinstance(original, ast.Compare):
                noted = _hook("operand", self.expr(original))
                result = ast.BoolOp(node.op, [noted, result])
                continue
            test, again = self._operand(original)
            is_and = isinstance(node.op, ast.And)
            result = ast.IfExp(test, *((result, again) if is_and else (again, result)))
        return result

    def _operand(self, node: ast.expr) -> tuple[ast.expr, ast.expr]:
        """The test of a value that is also the result if the test ends the expression."""
        if _TESTS_NESTED_ONCE and _is_nested(node):
            name = self._temporary()
            return self._kept_test(node, name), ast.Name(name, ast.Load())
        value = self.expr(node)
        if isinstance(value, ast.Name | ast.Constant):
            return _hook("test", value), value
        name = self._temporary()
        held = ast.NamedExpr(ast.Name(name, ast.Store()), value)
        return _hook("test", held), ast.Name(name, ast.Load())

    def _kept_test(self, node: ast.expr, name: str) -> ast.expr:
        """The test of `and`s and `or`s in each other; `name` keeps what was tested last."""
        match node:
            case ast.BoolOp(op=op, values=values):
                return ast.BoolOp(op, [self._kept_test(value, name) for value in values])
            case ast.IfExp(test=test) if _is_nested(node):
                arms = [self._kept_test(arm, name) for arm in (node.body, node.orelse)]
                return ast.IfExp(self._test(test), *arms)
        return _hook("test", ast.NamedExpr(ast.Name(name, ast.Store()), self.expr(node)))

    def _if_exp(self, node: ast.IfExp) -> ast.expr:
        new = ast.IfExp(self._test(node.test), self.expr(node.body), self.expr(node.orelse))
        if any(isinstance(n, ast.NamedExpr) for n in ast.walk(node)):
            return new  # it changes more than its value
        return _hook("chosen", ast.Constant(node.lineno), _hook("position"), _locate(new, node))

    def _compare(self, node: ast.Compare) -> ast.expr:
        *first, last = self._links(node)
        if not first:
            return last
        return ast.BoolOp(ast.And(), [*(_hook("operand", link) for link in first), last])

    def _links(self, node: ast.Compare) -> list[ast.expr]:
        """The comparisons of a chain."""
        links: list[ast.expr] = []
        left = self.expr(node.left)
        for index, (op, comparator) in enumerate(zip(node.ops, node.comparators, strict=True)):
            right = self.expr(comparator)
            if index < len(node.ops) - 1:
                name = self._temporary()
                right = ast.NamedExpr(ast.Name(name, ast.Store()), right)
            links.append(_comparison(op, left, right))
            if index < len(node.ops) - 1:
                left = ast.Name(name, ast.Load())
        return links

    def _sequence(self, node: ast.List | ast.Tuple | ast.Set) -> ast.expr:
        elements = self._elements(node.elts)
        if isinstance(node, ast.Set):
            return ast.Set([_hashed(element) for element in elements])
        return type(node)(elements, ast.Load())

    def _dict(self, node: ast.Dict) -> ast.expr:
        keys = [_hashed(self.expr(k)) if k is not None else None for k in node.keys]
        values = [
            self.expr(v) if k is not None else _hook("spread_mapping", self.expr(v))
            for k, v in zip(node.keys, node.values, strict=True)
        ]
        return ast.Dict(keys, values)

    def _joined(self, node: ast.JoinedStr) -> ast.expr:
        return ast.JoinedStr(self._exprs(node.values))

    def _formatted(self, node: ast.FormattedValue) -> ast.expr:
        return ast.FormattedValue(self._shown("formatted", node), -1)

    def _shown(self, hook: str, node: ast.FormattedValue) -> ast.expr:
        conversion = ast.Constant(chr(node.conversion) if node.conversion > 0 else "")
        specification = self.expr(node.format_spec) if node.format_spec else ast.Constant("")
        return _locate(_hook(hook, self.expr(node.value), conversion, specification), node)

    def _walrus(self, node: ast.NamedExpr) -> ast.expr:
        if self._is_global(node.target.id):
            raise no_rule(node, "a global assigned by `:=`")
        return ast.NamedExpr(node.target, self.expr(node.value))

    def _lambda(self, node: ast.Lambda) -> ast.expr:
        self._defaults(node.args)
        return _hook("make_function", node)

    def _defaults(self, args: ast.arguments) -> None:
        args.defaults = self._exprs(args.defaults)
        args.kw_defaults = [self.expr(d) if d is not None else None for d in args.kw_defaults]

    def _comprehension(
        self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp
    ) -> ast.expr:
        bound: set[str] = set()
        self._comprehension_names.append(bound)
        generators = []
        for index, generator in enumerate(node.generators):
            if generator.is_async:
                raise no_rule(node)
            if index == 0:  # the first iterable belongs to the enclosing scope
                self._comprehension_names.pop()
            iterable = self._iterable(generator.iter, generator.target, is_comprehension=True)
            if index == 0:
                self._comprehension_names.append(bound)
                for inner in node.generators:
                    bound.update(_bound_names(inner.target))
            tests = [self._test(test) for test in generator.ifs]
            generators.append(ast.comprehension(generator.target, iterable, tests, 0))
        new: ast.expr
        if isinstance(node, ast.DictComp):
            new = ast.DictComp(_hashed(self.expr(node.key)), self.expr(node.value), generators)
        else:
            element = self.expr(node.elt)
            is_set = isinstance(node, ast.SetComp)
            new = type(node)(_hashed(element) if is_set else element, generators)
        self._comprehension_names.pop()
        return new

    def _iterable(
        self, node: ast.expr, target: ast.expr, *, is_comprehension: bool = False
    ) -> ast.expr:
        for name in ast.walk(target):
            if isinstance(name, ast.Attribute | ast.Subscript):
                raise no_rule(name, "a loop variable that is an attribute or item")
            if isinstance(name, ast.Name) and self._is_declared_global(name.id):
                raise no_rule(name, "a loop variable that is a global")
        unpacks = not isinstance(target, ast.Name)
        # Python forbids `:=` in the iterable of a comprehension.
        outer, self._in_iterable = self._in_iterable, is_comprehension
        iterable = self.expr(node)
        self._in_iterable = outer
        return _hook("iterate_unpacking" if unpacks else "iterate", iterable)

    def _is_declared_global(self, name: str) -> bool:
        return name in self._globals

    def _yield(self, node: ast.Yield) -> ast.expr:
        return ast.Yield(self.expr(node.value) if node.value else None)

    def _yield_from(self, node: ast.YieldFrom) -> ast.expr:
        return ast.YieldFrom(_hook("iterate", self.expr(node.value)))

    def _held(self, node: Held) -> ast.expr:
        return ast.Name(node.id, ast.Load())

    def _asked(self, node: Asked) -> ast.expr:
        answer = _hook(node.name, *self._exprs(node.args))
        if node.into is None:
            return answer
        held = ast.NamedExpr(ast.Name(node.into, ast.Store()), answer)
        return ast.Compare(held, [ast.IsNot()], [_hooks("MISSING")])

    _EXPRESSIONS: ClassVar[dict[type[ast.expr], Callable[..., ast.expr]]] = {
        ast.Constant: _plain,
        ast.Name: _name,
        Held: _held,
        Asked: _asked,
        ast.Attribute: _attribute,
        ast.Subscript: _subscript,
        ast.Call: _call,
        ast.BinOp: _binary,
        ast.UnaryOp: _unary,
        ast.BoolOp: _bool_op,
        ast.IfExp: _if_exp,
        ast.Compare: _compare,
        ast.List: _sequence,
        ast.Tuple: _sequence,
        ast.Set: _sequence,
        ast.Dict: _dict,
        ast.JoinedStr: _joined,
        ast.FormattedValue: _formatted,
        ast.NamedExpr: _walrus,
        ast.Lambda: _lambda,
        ast.ListComp: _comprehension,
        ast.SetComp: _comprehension,
        ast.GeneratorExp: _comprehension,
        ast.DictComp: _comprehension,
        ast.Yield: _yield,
        ast.YieldFrom: _yield_from,
    }

    # ------------------------------------------------------------- statements

    def _keep(self, node: ast.stmt) -> list[ast.stmt]:
        return [node]

    def _expression(self, node: ast.Expr) -> list[ast.stmt]:
        return [ast.Expr(self.expr(node.value))]

    def _return(self, node: ast.Return) -> list[ast.stmt]:
        return [ast.Return(self.expr(node.value) if node.value else None)]

    def _assign(self, node: ast.Assign) -> list[ast.stmt]:
        value = self.expr(node.value)
        if len(node.targets) == 1:
            return self._bind(node.targets[0], value)
        name = self._temporary()
        statements = [_store(name, value)]
        for target in node.targets:
            statements += self._bind(target, ast.Name(name, ast.Load()))
        return statements

    def _bind(self, target: ast.expr, value: ast.expr) -> list[ast.stmt]:
        match target:
            case ast.Name(id=name) if self._is_declared_global(name):
                return [ast.Expr(_hook("store_global", value, ast.Constant(self._mangle(name))))]
            case ast.Name(id=name) if name in self._scope.stored:
                self.stores[name] += 1
                stored = _hook("store_free", ast.Name(name, ast.Load()), ast.Constant(name))
                return [ast.Assign([target], value), ast.Expr(stored)]
            case ast.Name():
                return [ast.Assign([target], value)]
            case ast.Attribute():
                name_node = ast.Constant(self._mangle(target.attr))
                return [ast.Expr(_hook("store_attr", value, self.expr(target.value), name_node))]
            case ast.Subscript():
                owner, index = self.expr(target.value), self._index(target.slice)
                return [ast.Expr(_hook("store_item", value, owner, index))]
            case ast.Tuple() | ast.List():
                return self._bind_many(target, value)
        raise no_rule(target)

    def _bind_many(self, target: ast.Tuple | ast.List, value: ast.expr) -> list[ast.stmt]:
        if self._is_written_out(target, value):
            return [ast.Assign([target], value)]
        unpacked = _hook("unpack", value)
        if all(self._is_plain_target(e) for e in target.elts):
            return [ast.Assign([target], unpacked)]
        names, later = [], []
        for element in target.elts:
            starred = isinstance(element, ast.Starred)
            inner = element.value if isinstance(element, ast.Starred) else element
            name = self._temporary()
            slot: ast.expr = ast.Name(name, ast.Store())
            names.append(ast.Starred(slot, ast.Store()) if starred else slot)
            later += self._bind(inner, ast.Name(name, ast.Load()))
        return [ast.Assign([ast.Tuple(names, ast.Store())], unpacked), *later]

    def _is_written_out(self, target: ast.Tuple | ast.List, value: ast.expr) -> bool:
        """`a, b = b, a`: nothing is read, and the compiler orders the stores as in the original.

        Some releases of 3.11 keep the first value of `a, a = b, c`.
        """
        names = [e for e in target.elts if isinstance(e, ast.Name) and self._is_plain_target(e)]
        if not isinstance(value, ast.Tuple) or not len(names) == len(target.elts) == len(
            value.elts
        ):
            return False
        return not any(isinstance(e, ast.Starred) for e in value.elts)

    def _is_plain_target(self, node: ast.expr) -> bool:
        inner = node.value if isinstance(node, ast.Starred) else node
        if not isinstance(inner, ast.Name):
            return False
        return not (self._is_declared_global(inner.id) or inner.id in self._scope.stored)

    def _augmented(self, node: ast.AugAssign) -> list[ast.stmt]:
        symbol = ast.Constant(_BINARY[type(node.op)])
        match node.target:
            case ast.Name(id=name):
                current = self.expr(ast.Name(name, ast.Load()))
                new = _hook("inplace", symbol, current, self.expr(node.value))
                return self._bind(node.target, new)
            case ast.Attribute(value=owner):
                held = self._temporary()
                attr = ast.Constant(self._mangle(node.target.attr))
                current = _hook("load_attr", ast.Name(held, ast.Load()), attr)
                new = _hook("inplace", symbol, current, self.expr(node.value))
                store = _hook("store_attr", new, ast.Name(held, ast.Load()), attr)
                return [_store(held, self.expr(owner)), ast.Expr(store)]
            case ast.Subscript(value=owner, slice=index):
                held, key = self._temporary(), self._temporary()
                names = ast.Name(held, ast.Load()), ast.Name(key, ast.Load())
                new = _hook("inplace", symbol, _hook("load_item", *names), self.expr(node.value))
                return [
                    _store(held, self.expr(owner)),
                    _store(key, self._index(index)),
                    ast.Expr(_hook("store_item", new, *names)),
                ]
        raise no_rule(node)

    def _annotated(self, node: ast.AnnAssign) -> list[ast.stmt]:
        if node.value is None:
            return [ast.Pass()]
        return self._bind(node.target, self.expr(node.value))

    def _delete(self, node: ast.Delete) -> list[ast.stmt]:
        statements: list[ast.stmt] = []
        for target in node.targets:
            match target:
                case ast.Name(id=name) if not self._is_declared_global(name):
                    statements.append(ast.Delete([target]))
                case ast.Attribute(value=owner, attr=name):
                    attr = ast.Constant(self._mangle(name))
                    statements.append(ast.Expr(_hook("delete_attr", self.expr(owner), attr)))
                case ast.Subscript(value=owner, slice=index):
                    hook = _hook("delete_item", self.expr(owner), self._index(index))
                    statements.append(ast.Expr(hook))
                case _:
                    raise no_rule(target)
        return statements

    def _if(self, node: ast.If) -> list[ast.stmt]:
        body, orelse = self.body(node.body), self.body(node.orelse)
        if isinstance(node.test, ast.Constant):
            return [ast.If(node.test, body, orelse)]
        line = ast.Constant(node.lineno)
        outcome = ast.keyword("outcome", self._test(node.test))
        test = _locate(_hook("branch", line, _hook("position"), keywords=[outcome]), node.test)
        names = [_texts(n) for n in self._liveness.at_end(node)]
        return [ast.If(test, body, orelse), ast.Expr(_hook("join", line, *names))]

    def _while(self, node: ast.While) -> list[ast.stmt]:
        loop = _hook("loop", ast.Constant(node.lineno))
        return self._loop(node, loop, lambda _: self._test(node.test), lambda _: [])

    def _loop(
        self,
        node: ast.While | ast.For,
        loop: ast.expr,
        test: Callable[[ast.expr], ast.expr],
        first: Callable[[ast.expr], list[ast.stmt]],
    ) -> list[ast.stmt]:
        """A loop whose head is a cut; numbers that it assigns are made values of the graph there.

        `loop` makes the object that stands for this execution; `test` says from it whether to go
        on, and `first` are statements before the body.
        """
        name = self._temporary()
        held = ast.Name(name, ast.Load())
        carried = [self._carry(held, n) for n in self._liveness.carried(node)]
        names = [_texts(n) for n in self._liveness.at_head(node)]
        head = _hook("head", held, *names, *carried)
        cond = _locate(ast.BoolOp(ast.And(), [head, test(held)]), node)
        after = [_texts(n) for n in self._liveness.at_end(node)]
        body = [*(_locate(s, node) for s in first(held)), *self.body(node.body)]
        return [
            _store(name, loop),
            ast.While(cond, body, self.body(node.orelse)),
            ast.Expr(_hook("leave", held, *after)),
        ]

    def _carry(self, loop: ast.expr, name: str) -> ast.expr:
        """Rebind a local name to a number of the graph, where it holds a number."""
        given = ast.Constant(name)
        if self._is_declared_global(name) or name in self._scope.free:
            return ast.Constant(None)
        number = ast.NamedExpr(ast.Name(name, ast.Store()), _hook("carry", loop, given))
        return ast.BoolOp(ast.And(), [_hook("carries", loop, given), number])

    def _for(self, node: ast.For) -> list[ast.stmt]:
        if self._is_range(node.iter) and isinstance(node.target, ast.Name):
            assert isinstance(node.iter, ast.Call)
            parts = [self.expr(part) for part in (node.iter.func, *node.iter.args)]
            loop = _hook("span", ast.Constant(node.lineno), *parts)
            target = node.target
            return self._loop(
                node,
                loop,
                lambda held: _hook("advance", held),
                lambda held: self._bind(target, _hook("item", held)),
            )
        iterable = self._iterable(node.iter, node.target)
        return [ast.For(node.target, iterable, self.body(node.body), self.body(node.orelse))]

    def _is_range(self, node: ast.expr) -> bool:
        """Whether an iterable is `range(...)`, if that name still is what it was."""
        if not isinstance(node, ast.Call) or node.keywords:
            return False
        is_named = isinstance(node.func, ast.Name) and node.func.id == "range"
        return is_named and not any(isinstance(a, ast.Starred) for a in node.args)

    def _with(self, node: ast.With) -> list[ast.stmt]:
        items = []
        for item in node.items:
            target = item.optional_vars
            if target is not None and not self._is_plain_target(target):
                raise no_rule(node, "a `with` target that is not a local name")
            items.append(ast.withitem(_hook("context", self.expr(item.context_expr)), target))
        return [ast.With(items, self.body(node.body))]

    def _try(self, node: ast.Try) -> list[ast.stmt]:
        handlers = [
            ast.copy_location(
                ast.ExceptHandler(h.type and self.expr(h.type), h.name, self.body(h.body)), h
            )
            for h in node.handlers
        ]
        enter, leave = ast.Expr(_hook("enter_try")), ast.Expr(_hook("leave_try"))
        guarded = self.body(node.body)
        if handlers:
            inner = ast.Try(guarded, handlers, self.body(node.orelse), [])
            guarded = [_locate(inner, node)]
        # Also without a handler: what `finally` does, an error in the body must not skip. What
        # stands in `finally` itself, an error may leave as anywhere else.
        return [enter, ast.Try(guarded, [], [], [leave, *self.body(node.finalbody)])]

    def _raise(self, node: ast.Raise) -> list[ast.stmt]:
        parts = (node.exc, node.cause)
        return [ast.Raise(*(self.expr(p) if p is not None else None for p in parts))]

    def _assert(self, node: ast.Assert) -> list[ast.stmt]:
        return [ast.Assert(self._test(node.test), node.msg and self.expr(node.msg))]

    def _global(self, node: ast.Global) -> list[ast.stmt]:
        self._globals.update(node.names)
        return [node]

    def _function(self, node: ast.FunctionDef) -> list[ast.stmt]:
        if self._is_declared_global(node.name):
            raise no_rule(node, "a function defined as a global")
        decorators = [(self._temporary(), self.expr(d)) for d in node.decorator_list]
        self._defaults(node.args)
        _drop_annotations(node)
        node.decorator_list = [_hooks("make_function")]
        after = []
        for name, _ in reversed(decorators):
            made = ast.Name(node.name, ast.Load())
            after.append(_store(node.name, _hook("call", ast.Name(name, ast.Load()), made)))
        return [*(_store(t, d) for t, d in decorators), node, *after]

    def _import(self, node: ast.Import) -> list[ast.stmt]:
        statements: list[ast.stmt] = []
        for alias in node.names:
            bound = alias.asname or alias.name.partition(".")[0]
            binds_inner = alias.asname is not None
            hook = _hook(
                "import_module" if binds_inner else "import_root", ast.Constant(alias.name)
            )
            statements += self._bind(ast.Name(bound, ast.Store()), hook)
        return statements

    def _import_from(self, node: ast.ImportFrom) -> list[ast.stmt]:
        statements: list[ast.stmt] = []
        for alias in node.names:
            hook = _hook(
                "import_from",
                ast.Constant(node.module or ""),
                ast.Constant(alias.name),
                ast.Constant(node.level),
            )
            statements += self._bind(ast.Name(alias.asname or alias.name, ast.Store()), hook)
        return statements

    _STATEMENTS: ClassVar[dict[type[ast.stmt], Callable[..., list[ast.stmt]]]] = {
        ast.Pass: _keep,
        ast.Break: _keep,
        ast.Continue: _keep,
        ast.Nonlocal: _keep,
        ast.Global: _global,
        ast.Expr: _expression,
        ast.Return: _return,
        ast.Assign: _assign,
        ast.AugAssign: _augmented,
        ast.AnnAssign: _annotated,
        ast.Delete: _delete,
        ast.If: _if,
        ast.While: _while,
        ast.For: _for,
        ast.With: _with,
        ast.Try: _try,
        ast.Raise: _raise,
        ast.Assert: _assert,
        ast.FunctionDef: _function,
        ast.Import: _import,
        ast.ImportFrom: _import_from,
    }


def _comparison(op: ast.cmpop, left: ast.expr, right: ast.expr) -> ast.expr:
    match op:
        case ast.Is():
            return _hook("identical", left, right)
        case ast.IsNot():
            return ast.UnaryOp(ast.Not(), _hook("identical", left, right))
        case ast.In():
            return _hook("contains", left, right)
        case ast.NotIn():
            return ast.UnaryOp(ast.Not(), _hook("contains", left, right))
    return _hook("compare", ast.Constant(_COMPARE[type(op)]), left, right)


def _hook(name: str, *arguments: ast.expr, keywords: list[ast.keyword] | None = None) -> ast.Call:
    return ast.Call(_hooks(name), list(arguments), keywords or [])


def _hashed(element: ast.expr) -> ast.expr:
    """An element of a set, or a key of a dict."""
    if isinstance(element, ast.Constant):
        return element
    if isinstance(element, ast.Starred):
        return ast.Starred(_hook("all_hashed", element.value), ast.Load())
    return _hook("hashed", element)


def _hooks(name: str) -> ast.expr:
    return ast.Attribute(ast.Constant(HOOKS), name, ast.Load())


def _is_nested(node: ast.expr) -> bool:
    """Whether the value of an expression is that of an `and` or `or` inside it."""
    match node:
        case ast.IfExp(body=body, orelse=orelse):
            return _is_nested(body) or _is_nested(orelse)
    return isinstance(node, ast.BoolOp)


def _is_tested_in_parts(*arms: ast.expr) -> bool:
    return any(
        isinstance(arm, ast.BoolOp | ast.IfExp)
        or (isinstance(arm, ast.UnaryOp) and isinstance(arm.op, ast.Not))
        or (isinstance(arm, ast.Compare) and len(arm.ops) > 1)
        for arm in arms
    )


def _texts(names: tuple[str, ...]) -> ast.expr:
    return ast.Tuple([ast.Constant(name) for name in names], ast.Load())


def _store(name: str, value: ast.expr) -> ast.stmt:
    return ast.Assign([ast.Name(name, ast.Store())], value)


def _bound_names(target: ast.expr) -> set[str]:
    return {n.id for n in ast.walk(target) if isinstance(n, ast.Name)}


def _drop_annotations(node: ast.FunctionDef) -> None:
    node.returns = None
    every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    for arg in [*every, *filter(None, (node.args.vararg, node.args.kwarg))]:
        arg.annotation = None


def _locate(new: _Node, old: ast.AST) -> _Node:
    return ast.fix_missing_locations(ast.copy_location(new, old))
