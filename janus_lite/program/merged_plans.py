"""Plans of outputs and effects of several runs -> one plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from janus_lite.program.alike import equal_lengths, key, same, shape
from janus_lite.record.outputs import Built, Constant, Loaded
from janus_lite.record.source import key_of
from janus_lite.record.text import Text
from janus_lite.record.trace import Ref


class Plans:
    """Merges plans of outputs and effects; what shares an object goes on sharing it."""

    def __init__(
        self,
        operand: Callable[[Sequence[Any]], Any],
        whole_list: Callable[[Sequence[Any]], Ref | None],
    ) -> None:
        self._operand = operand
        self._whole_list = whole_list
        self._made: dict[tuple[int, ...], object] = {}

    def plan(self, plans: Sequence[Any]) -> Any:
        """One plan for the plan of each run.

        Raises:
            Unmergeable: they make different things.
        """
        first = plans[0]
        same([type(p) for p in plans], "results differ in class")
        if isinstance(first, Ref):
            return self._operand(plans)
        if isinstance(first, Constant):
            same([key(p.value) for p in plans], "results differ in a constant")
            return first
        if isinstance(first, Loaded):
            same([key_of(p.source) for p in plans], "results are different outside objects")
            return first
        if isinstance(first, Text):
            return self._text(plans)
        return self._built(plans)

    def _built(self, plans: Sequence[Built]) -> object:
        key = tuple(map(id, plans))
        whole = self._whole_list(plans)
        if whole is not None:
            return whole
        if key not in self._made:
            first = plans[0]
            same([shape(p) for p in plans], "results differ in structure")
            items = zip(*(p.items for p in plans), strict=True)
            attributes = zip(*([v for _, v in p.attributes] for p in plans), strict=True)
            names = [n for n, _ in first.attributes]
            self._made[key] = replace(
                first,
                items=tuple(map(self.plan, items)),
                attributes=tuple(zip(names, map(self.plan, attributes), strict=True)),
            )
        return self._made[key]

    def _text(self, plans: Sequence[Text]) -> Text:
        parts = [self._part(p) for p in zip(*equal_lengths([t.parts for t in plans]), strict=True)]
        return replace(plans[0], parts=tuple(parts))

    def _part(self, parts: Sequence[Any]) -> Any:
        first = parts[0]
        same([type(p) for p in parts], "texts differ")
        if isinstance(first, str):
            return same(list(parts), "texts differ")
        same([(p.conversion, p.specification) for p in parts], "texts differ")
        if isinstance(first.value, Ref):
            return replace(first, value=self._operand([p.value for p in parts]))
        same([key_of(p.value) for p in parts], "texts differ")
        return first
