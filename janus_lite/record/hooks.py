"""The hook object that twins carry: one method per rewritten construct.

A twin may outlive its recording (a generator that escaped) or run after the trace was stopped; each
hook then does the plain operation.
"""

from __future__ import annotations

import builtins
import operator
import sys
import types
from functools import partial
from typing import Any

from janus_lite.errors import Code
from janus_lite.record import attributes, calls, formatting, host, matching, regions, syntax, text
from janus_lite.record.audit import is_library_file
from janus_lite.record.effects import StoreKind
from janus_lite.record.instrument import TwinCache
from janus_lite.record.session import current
from janus_lite.record.stack import as_seen_by_user
from janus_lite.record.trace import MarkKind


class Hooks:
    """What twins call; see `instrument.rewrite` for which construct becomes which hook."""

    slice = builtins.slice

    MISSING = matching.MISSING
    is_sequence = staticmethod(matching.is_sequence)
    is_mapping = staticmethod(matching.is_mapping)
    has_length = staticmethod(matching.has_length)
    has_least_length = staticmethod(matching.has_least_length)
    element = staticmethod(matching.element)
    unpacked = staticmethod(matching.unpacked)
    same = staticmethod(matching.same)
    part = staticmethod(matching.part)
    items = staticmethod(matching.items)
    without_items = staticmethod(matching.without_items)
    parts = staticmethod(matching.parts)

    @staticmethod
    def call(function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """`function(*args, **kwargs)`."""
        session = current()
        if session is None or not host.is_deferred(function):
            args, kwargs = host.plain_arguments(session, function, args, kwargs)
        if session is None:
            return as_seen_by_user(function)(*args, **kwargs)
        return calls.call(session, function, args, kwargs)

    @staticmethod
    def load_global(name: str) -> Any:
        """The global or builtin `name`."""
        table = sys._getframe(1).f_globals
        session = current()
        if session is not None:
            if name in table:
                return session.heap.read_global(table, name)
            session.heap.global_name(table, name)
        try:
            return table[name]
        except KeyError:
            names = table["__builtins__"]
            found = names if isinstance(names, dict) else vars(names)
            if name not in found:
                raise NameError(f"name {name!r} is not defined", name=name) from None
            return found[name]

    @staticmethod
    def load_globals() -> dict[str, Any]:
        """`globals()`."""
        table = sys._getframe(1).f_globals
        session = current()
        if session is not None:
            session.heap.pin_globals(table)
        return table

    @staticmethod
    def store_global(value: Any, name: str) -> None:
        """`name = value` for a global."""
        table = sys._getframe(1).f_globals
        session = current()
        if session is not None:
            session.heap.pin_globals(table)
            session.store(StoreKind.ITEM, table, name, value)
            session.writes.written(table, name)
        table[name] = value

    @staticmethod
    def load_free(value: Any, name: str) -> Any:
        """A variable of an enclosing function that this function also assigns."""
        session = current()
        if session is None:
            return value
        cell = session.free_cell(sys._getframe(1), name, value)
        return value if cell is None else session.heap.read_cell(cell, value)

    @staticmethod
    def load_outer(value: Any, name: str) -> Any:
        """A variable of an enclosing function that this function only reads."""
        session = current()
        if session is None or not session.heap.may_vary(value):
            return value
        return session.outer_number(sys._getframe(1), name, value)

    @staticmethod
    def store_free(value: Any, name: str) -> None:
        """A variable of an enclosing function was assigned."""
        session = current()
        if session is None:
            return
        cell = session.free_cell(sys._getframe(1), name, value)
        if cell is not None:
            session.store(StoreKind.ATTRIBUTE, cell, "cell_contents", value)
            session.writes.written(cell, "cell_contents")

    @staticmethod
    def load_attr(owner: Any, name: str) -> Any:
        """`owner.name`."""
        session = current()
        return getattr(owner, name) if session is None else attributes.load(session, owner, name)

    @staticmethod
    def store_attr(value: Any, owner: Any, name: str) -> None:
        """`owner.name = value`."""
        session = current()
        if session is None:
            setattr(owner, name, value)
        else:
            attributes.store(session, owner, name, value)

    @staticmethod
    def delete_attr(owner: Any, name: str) -> None:
        """`del owner.name`."""
        session = current()
        if session is None:
            delattr(owner, name)
        else:
            attributes.delete(session, owner, name)

    @staticmethod
    def load_item(owner: Any, key: Any) -> Any:
        """`owner[key]`."""
        session = current()
        return owner[key] if session is None else syntax.load_item(session, owner, key)

    @staticmethod
    def store_item(value: Any, owner: Any, key: Any) -> None:
        """`owner[key] = value`."""
        session = current()
        if session is None:
            owner[key] = value
        else:
            syntax.store_item(session, value, owner, key)

    @staticmethod
    def delete_item(owner: Any, key: Any) -> None:
        """`del owner[key]`."""
        session = current()
        if session is None:
            del owner[key]
        else:
            syntax.delete_item(session, owner, key)

    @staticmethod
    def binary(symbol: str, left: Any, right: Any) -> Any:
        """`left <symbol> right`."""
        session = current()
        if session is None:
            return syntax._BINARY[symbol][0](left, right)
        return syntax.binary(session, symbol, left, right)

    @staticmethod
    def inplace(symbol: str, left: Any, right: Any) -> Any:
        """`left <symbol>= right`, the value to be bound."""
        session = current()
        if session is None:
            return syntax._INPLACE[symbol](left, right)
        return syntax.inplace(session, symbol, left, right)

    @staticmethod
    def unary(symbol: str, value: Any) -> Any:
        """`<symbol> value`."""
        session = current()
        if session is None:
            return syntax._UNARY[symbol][0](value)
        return syntax.unary(session, symbol, value)

    @staticmethod
    def compare(symbol: str, left: Any, right: Any) -> Any:
        """`left <symbol> right` for the six rich comparisons."""
        session = current()
        if session is None:
            return syntax._COMPARE[symbol][0](left, right)
        return syntax.compare(session, symbol, left, right)

    @staticmethod
    def hashed(value: Any) -> Any:
        """An element of a set, or a key of a dict, that is written out."""
        session = current()
        return value if session is None else syntax.hashed(session, value)

    @staticmethod
    def all_hashed(values: Any) -> Any:
        """Elements that `{*values}` puts into a set."""
        session = current()
        return values if session is None else map(partial(syntax.hashed, session), values)

    @staticmethod
    def identical(left: Any, right: Any) -> bool:
        """`left is right`."""
        session = current()
        return left is right if session is None else syntax.identical(session, left, right)

    @staticmethod
    def contains(item: Any, container: Any) -> bool:
        """`item in container`."""
        session = current()
        if session is None:
            return operator.contains(container, item)
        return syntax.contains(session, item, container)

    @staticmethod
    def test(value: Any) -> bool:
        """The truth of `value` where it is only tested."""
        session = current()
        return bool(value) if session is None else syntax.test(session, value)

    @staticmethod
    def position() -> int:
        """How many operations the run has; see `branch`."""
        session = current()
        return -1 if session is None else len(session.tape.operations)

    @staticmethod
    def branch(line: int, since: int, *, outcome: bool) -> bool:
        """The test of an `if`; operations from `since` on belong to it."""
        session = current()
        if session is None:
            return outcome
        # Where nothing was asked of the graph, an earlier `if` that was left early is forgotten.
        if session.regions.branches or since != len(session.tape.operations):
            regions.branch(session, sys._getframe(1), line, since)
        return outcome

    @staticmethod
    def chosen(line: int, since: int, value: Any) -> Any:
        """The value of `a if test else b`."""
        session = current()
        if session is not None and since != len(session.tape.operations):
            regions.chosen(session, sys._getframe(1), line, since, value)
        return value

    @staticmethod
    def join(line: int, live: tuple[str, ...], stable: tuple[str, ...]) -> None:
        """The end of an `if`: names live from here on, and those that it cannot have assigned."""
        session = current()
        if session is not None and session.regions.branches:
            regions.join(session, sys._getframe(1), line, live, stable)

    @staticmethod
    def loop(line: int) -> regions.LoopRun:
        """A `while` begins."""
        return regions.LoopRun(current(), sys._getframe(1), line)

    @staticmethod
    def span(line: int, function: Any, *bounds: Any) -> regions.LoopRun:
        """A `for` over `function(*bounds)`, which is most likely a range, begins."""
        session = current()
        if session is None:
            return regions.LoopRun(None, sys._getframe(1), line, iter(function(*bounds)))
        return regions.begin_span(session, sys._getframe(1), line, function, bounds)

    @staticmethod
    def carries(loop: regions.LoopRun, name: str) -> bool:
        """Whether a local name holds a number that goes round a loop of the graph."""
        return loop.region is not None and loop.carries(current(), sys._getframe(1), name)

    @staticmethod
    def carry(loop: regions.LoopRun, name: str) -> Any:
        """That number as a value of the graph."""
        return loop.carry(current(), sys._getframe(1), name)

    @staticmethod
    def head(
        loop: regions.LoopRun, live: tuple[str, ...], stable: tuple[str, ...], *_carried: object
    ) -> bool:
        """The head of a loop."""
        if loop.region is not None:
            loop.mark(current(), MarkKind.HEAD, sys._getframe(1), live, stable)
        return True

    @staticmethod
    def advance(loop: regions.LoopRun) -> bool:
        """Whether a `for` goes on."""
        return loop.advance(current())

    @staticmethod
    def item(loop: regions.LoopRun) -> Any:
        """The next element of a `for`."""
        return loop.item(current())

    @staticmethod
    def leave(loop: regions.LoopRun, live: tuple[str, ...], stable: tuple[str, ...]) -> None:
        """A loop has ended."""
        session = current()
        if session is not None:
            loop.leave(session)
            if loop.region is not None:
                loop.mark(session, MarkKind.EXIT, sys._getframe(1), live, stable)

    @staticmethod
    def operand(value: Any) -> Any:
        """`value` where it is tested and may also be the result of `and` or `or`."""
        session = current()
        return value if session is None else syntax.operand(session, value)

    @staticmethod
    def iterate(value: Any) -> Any:
        """What a `for` loop steps through."""
        session = current()
        return value if session is None else syntax.iterate(session, value)

    spread = iterate

    @staticmethod
    def iterate_unpacking(value: Any) -> Any:
        """What a `for` loop steps through that unpacks each element."""
        session = current()
        return value if session is None else syntax.iterate_unpacking(session, value)

    @staticmethod
    def unpack(value: Any) -> Any:
        """What is unpacked by an assignment."""
        session = current()
        return value if session is None else syntax.unpack(session, value)

    @staticmethod
    def spread_mapping(value: Any) -> Any:
        """What is passed as `**value`."""
        session = current()
        return value if session is None else syntax.spread_mapping(session, value)

    @staticmethod
    def formatted(value: Any, conversion: str, specification: str) -> str:
        """`{value!conversion:specification}` of an f-string."""
        session = current()
        if session is None:
            return format(text.convert(value, conversion), specification)
        return formatting.formatted(session, value, conversion, specification)

    @staticmethod
    def piece(value: Any, conversion: str, specification: str) -> str | text.Text:
        """`{value!conversion:specification}` of an f-string that is an argument of a call."""
        session = current()
        if session is not None:
            piece = text.make_piece(session, value, conversion, specification)
            if piece is not None:
                return piece
        return Hooks.formatted(value, conversion, specification)

    @staticmethod
    def text(*parts: str | text.Text) -> str | text.Text:
        """An f-string that is an argument of a call."""
        return text.join(parts)

    @staticmethod
    def context(manager: Any) -> Any:
        """The manager of a `with` statement."""
        session = current()
        return manager if session is None else syntax.context(session, manager)

    @staticmethod
    def enter_try() -> None:
        """The body of a `try` begins."""
        session = current()
        if session is not None and not is_library_file(sys._getframe(1).f_code.co_filename):
            session.tape.try_depth += 1

    @staticmethod
    def leave_try() -> None:
        """The body of a `try` ends."""
        session = current()
        if session is not None and not is_library_file(sys._getframe(1).f_code.co_filename):
            session.tape.try_depth -= 1

    @staticmethod
    def make_function(function: types.FunctionType) -> types.FunctionType:
        """A `def` or `lambda` has made a function."""
        # The function may escape, so it gets its own code back; a call makes its twin.
        function.__code__ = TWINS.originals[id(function.__code__)]
        session = current()
        if session is not None:
            session.made_function(function)
        return function

    @staticmethod
    def import_root(name: str) -> Any:
        """`import root.inner`, which binds `root`."""
        Hooks._note_import(name)
        return __import__(name)

    @staticmethod
    def import_module(name: str) -> Any:
        """`import root.inner as other`, which binds `root.inner`."""
        Hooks._note_import(name)
        __import__(name)
        return sys.modules[name]

    @staticmethod
    def import_from(module: str, name: str, level: int) -> Any:
        """`from module import name`."""
        frame = sys._getframe(1)
        Hooks._note_import("." * level + module)
        session = current()
        if session is None:
            found = __import__(module, frame.f_globals, None, (name,), level)
            return getattr(found, name)
        with session.own_work():  # the module is there already, or the trace is stopped
            found = __import__(module, frame.f_globals, None, (name,), level)
        session.heap.pin(found, found.__name__)
        try:
            return attributes.load(session, found, name)
        except AttributeError:
            raise ImportError(
                f"cannot import name {name!r} from {found.__name__!r}", name=found.__name__
            ) from None

    @staticmethod
    def _note_import(name: str) -> None:
        session = current()
        if session is None:
            return
        if not name.startswith(".") and name in sys.modules:
            owner = session.heap.pin(sys.modules, "sys.modules")
            session.heap.entry(owner, sys.modules, name)
        elif not name.startswith("."):
            session.stop(Code.HOST_EFFECT, f"imports `{name}` for the first time")


TWINS = TwinCache(Hooks())
