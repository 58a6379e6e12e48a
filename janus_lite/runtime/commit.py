"""Effects and output of a program -> lines of its generated function."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from functools import partial
from operator import delitem, setitem
from typing import Any

from janus_lite.program.generalize import Program
from janus_lite.record.effects import Effect, HostCall, Store, StoreKind
from janus_lite.record.outputs import Built, Constant, Loaded, parts_of, plans_of, refs_in_plan
from janus_lite.record.source import Source
from janus_lite.record.text import Piece, Text
from janus_lite.record.trace import Ref
from janus_lite.runtime.guards import Loader, Names
from janus_lite.runtime.rebuild import maker_of


class CommitEmitter:
    """Emits each effect at its place and the output at the end.

    Everything that the effects need of the heap is loaded when the emitter is made, before the
    first of them changes it. Objects that several plans share are made once.

    Args:
        output: plan of the return value.
        effects: in program order.
        names: shared names of the module.
        lines: receives the code.
        numbers: names of the varying numbers, loaded with the guards, by source.
    """

    def __init__(
        self,
        output: object,
        effects: Sequence[Effect],
        names: Names,
        lines: list[str],
        numbers: Mapping[int, str],
    ) -> None:
        self._names = names
        self._numbers = numbers
        self._lines = lines
        self._output = output
        self._pending = deque(effects)
        self._held: dict[int, str] = {}
        self._uses: dict[int, int] = defaultdict(int)
        self._loader = Loader(names, lines, prefix="w")
        for plan in (*(p for e in effects for p in plans_of(e)), output):
            self._note(plan)
        for effect in effects:
            if isinstance(effect, Store):
                self._loader.load(effect.owner)

    def effects(self, position: int) -> None:
        """Append the effects that come before operation number `position`."""
        while self._pending and self._pending[0].position <= position:
            self._lines.append(self._effect(self._pending.popleft()))

    def put_off(self) -> None:
        """Append what notes the effects in a journal; their values are made now."""
        self._names.namespace.update(partial=partial, setitem=setitem, delitem=delitem)
        for effect in self._pending:
            self._lines.append(f"journal.append(partial({', '.join(self._call_parts(effect))}))")

    def output(self) -> None:
        """Append the return statement."""
        self._lines.append(f"return {self._plan(self._output)}")

    def _note(self, plan: object) -> None:
        if isinstance(plan, Source):
            self._load(plan)
        if isinstance(plan, Loaded):
            self._load(plan.source)
        if isinstance(plan, Built):
            self._uses[id(plan)] += 1
            if self._uses[id(plan)] > 1:
                return
        for part in parts_of(plan):
            self._note(part)

    def _load(self, source: Source) -> str:
        return self._numbers.get(id(source)) or self._loader.load(source)

    # ---------------------------------------------------------------- effects

    def _effect(self, effect: Effect) -> str:
        plans = [self._plan(p) for p in plans_of(effect)]
        if isinstance(effect, Store):
            return self._store(effect, self._loader.load(effect.owner), plans)
        keywords = [""] * len(effect.args) + [f"{name}=" for name in effect.kwargs]
        arguments = ", ".join(f"{k}{p}" for k, p in zip(keywords, plans, strict=True))
        return f"{self._names.constant(effect.function, 'host')}({arguments})"

    def _call_parts(self, effect: Effect) -> list[str]:
        """A function and its arguments: what `partial` takes."""
        plans = [self._plan(p) for p in plans_of(effect)]
        if isinstance(effect, HostCall):
            keywords = [""] * len(effect.args) + [f"{name}=" for name in effect.kwargs]
            arguments = [f"{k}{p}" for k, p in zip(keywords, plans, strict=True)]
            return [self._names.constant(effect.function, "host"), *arguments]
        owner = self._loader.load(effect.owner)
        match effect.kind:
            case StoreKind.ATTRIBUTE:
                return ["set_attribute", owner, repr(effect.key), *plans]
            case StoreKind.ITEM:
                return ["setitem", owner, self._constant(effect.key), *plans]
            case StoreKind.METHOD:
                return [f"{owner}.{effect.key}", *plans]
            case StoreKind.DELETE_ATTRIBUTE:
                return ["delete_attribute", owner, repr(effect.key)]
            case StoreKind.DELETE_ITEM:
                return ["delitem", owner, self._constant(effect.key)]

    def _store(self, store: Store, owner: str, values: list[str]) -> str:
        match store.kind:
            case StoreKind.ATTRIBUTE:
                return f"set_attribute({owner}, {store.key!r}, {values[0]})"
            case StoreKind.ITEM:
                return f"{owner}[{self._constant(store.key)}] = {values[0]}"
            case StoreKind.METHOD:
                return f"{owner}.{store.key}({', '.join(values)})"
            case StoreKind.DELETE_ATTRIBUTE:
                return f"delete_attribute({owner}, {store.key!r})"
            case StoreKind.DELETE_ITEM:
                return f"del {owner}[{self._constant(store.key)}]"

    # ------------------------------------------------------------------ plans

    def _constant(self, value: object) -> str:
        if isinstance(value, Source):
            return self._load(value)
        return repr(value) if is_literal(value) else self._names.constant(value)

    def _plan(self, plan: object) -> str:
        """An expression that makes what the plan says."""
        if isinstance(plan, Ref):
            return f"v{plan.index}"
        if isinstance(plan, Constant):
            return self._constant(plan.value)
        if isinstance(plan, Loaded):
            return self._load(plan.source)
        if isinstance(plan, Text):
            return f"''.join(({', '.join(map(self._piece, plan.parts))},))"
        assert isinstance(plan, Built)
        if id(plan) in self._held:
            return self._held[id(plan)]
        text = self._built(plan)
        if self._uses[id(plan)] > 1:
            name = f"shared{len(self._held)}"
            self._lines.append(f"{name} = {text}")
            self._held[id(plan)] = text = name
        return text

    def _piece(self, part: str | Piece) -> str:
        if isinstance(part, str):
            return repr(part)
        place = part.value
        value = f"v{place.index}" if isinstance(place, Ref) else self._load(place)
        if part.conversion:
            value = f"convert({value}, {part.conversion!r})"
        return f"format({value}, {part.specification!r})"

    def _built(self, plan: Built) -> str:
        items = [self._plan(p) for p in plan.items]
        attributes = [(n, self._plan(p)) for n, p in plan.attributes]
        if plan.cls is tuple:
            return f"({', '.join(items)}{',' if len(items) == 1 else ''})"
        if plan.cls is list:
            return f"[{', '.join(items)}]"
        if plan.keys is not None:
            pairs = zip(map(self._constant, plan.keys), items, strict=True)
            content = "{" + ", ".join(f"{k}: {v}" for k, v in pairs) + "}"
            if plan.cls is dict and not attributes:
                return content
        else:
            content = f"[{', '.join(items)}]"
        fields = "{" + ", ".join(f"{n!r}: {v}" for n, v in attributes) + "}"
        cls, extra = self._names.constant(plan.cls), self._names.constant(plan.extra)
        maker = self._names.constant(maker_of(plan.cls), "make")
        return f"{maker}({cls}, {content}, {fields}, {extra})"


def foreign_outputs(program: Program) -> list[Ref]:
    """The graph values that output and effects need, which a foreign backend must return."""
    plans = (program.output, *(p for e in program.effects for p in plans_of(e)))
    return list(dict.fromkeys(ref for plan in plans for ref in refs_in_plan(plan)))


def is_literal(value: Any) -> bool:
    """Whether the text of a value is the value."""
    if type(value) is float:
        return value == value and abs(value) != float("inf")
    if type(value) in (list, tuple):
        return all(is_literal(v) for v in value)
    return type(value) in (int, str, bool, type(None))
