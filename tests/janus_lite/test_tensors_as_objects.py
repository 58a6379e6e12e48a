"""Tensors as Python objects: what programs ask of them beyond their numbers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

import janus_lite

Program = Callable[[Any], Any]


def tensor(value: float, **attributes: object) -> Any:
    made = torch.tensor([float(value)])
    for name, attribute in attributes.items():
        setattr(made, name, attribute)
    return made


def with_gradient(made: torch.Tensor) -> torch.Tensor:
    made.grad = torch.ones(1)
    return made


KNOWN = tensor(9.0)
TABLE: dict[Any, int] = {KNOWN: 1}
MAKERS: tuple[Callable[[], torch.Tensor], ...] = (
    lambda: tensor(1),
    lambda: tensor(2, tag="a"),
    lambda: tensor(3, tag="b"),
    lambda: KNOWN,
    lambda: torch.nn.Parameter(tensor(4)),
    lambda: tensor(5, tag="a", other=1),
    lambda: with_gradient(tensor(6)),
    lambda: tensor(7).requires_grad_(),
    lambda: tensor(8).view(-1),
)
ORDER = (0, 0, 1, 1, 2, 5, 3, 3, 4, 4, 6, 6, 7, 7, 8, 0, 1, 3)


def changes_its_attribute(t: Any) -> Any:
    t.seen = getattr(t, "seen", 0) + 1
    return t * t.seen


def asks_for_what_is_missing(t: Any) -> Any:
    try:
        return t * 2, t.nothing
    except AttributeError as error:
        return t * 3, str(error)


def marks_a_result(t: Any) -> Any:
    made = t * 2
    made.tag = "x"
    return made, made.tag


def loses_its_attribute(t: Any) -> Any:
    del t.tag
    return t * 2


PROGRAMS: dict[str, Program] = {
    "getattr": lambda t: (t + 1, getattr(t, "tag", None)),
    "hasattr": lambda t: (t + 1, hasattr(t, "tag")),
    "in its dict": lambda t: (t * 2, "tag" in t.__dict__),
    "from its dict": lambda t: (t * 2, t.__dict__.get("tag")),
    "its dict": lambda t: (t * 2, dict(t.__dict__)),
    "vars": lambda t: (t * 2, vars(t)),
    "names": lambda t: (t * 2, sorted(t.__dict__), len(t.__dict__)),
    "dict of a result": lambda t: (t * 2, dict((t * 2).__dict__), vars(t.view(-1))),
    "dict of a known one": lambda t: (t * 2, vars(KNOWN), "tag" in KNOWN.__dict__),
    "is": lambda t: (t * 2, t is KNOWN),
    "any is": lambda t: (t * 2, any(t is u for u in TABLE)),
    "key": lambda t: (t * 2, t in TABLE),
    "set": lambda t: (t * 2, len({t, KNOWN})),
    "hash": lambda t: (t * 2, hash(t) == hash(KNOWN)),
    "id": lambda t: (t * 2, id(t) == id(KNOWN), {id(KNOWN): 1}.get(id(t))),
    "class": lambda t: (t * 2, isinstance(t, torch.nn.Parameter), type(t).__name__),
    "gradient": lambda t: (t * 2, t.grad is None, t.grad),
    "state": lambda t: (t * 2, t.requires_grad, t.is_leaf, t.retains_grad, t._version),
    "data": lambda t: (t.data + 1, t.detach() is t, t.data is t),
    "copied": lambda t: (copy.copy(t) * 2, getattr(copy.copy(t), "tag", 0)),
    **{f.__name__: f for f in (
        changes_its_attribute, asks_for_what_is_missing, marks_a_result, loses_its_attribute,
    )},
}  # fmt: skip


def outcome(program: Program, made: torch.Tensor) -> str:
    vars(KNOWN).clear()
    try:
        return repr((program(made), vars(made)))
    except AttributeError as error:
        return repr(error)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_tensor_answers_for_itself_in_every_call(name: str) -> None:
    program = PROGRAMS[name]
    speculated: Any = janus_lite.speculate(program)
    for index in ORDER:
        assert outcome(speculated, MAKERS[index]()) == outcome(program, MAKERS[index]())


def test_a_known_tensor_that_gets_an_attribute_is_seen_to_have_it() -> None:
    program = PROGRAMS["dict of a known one"]
    speculated: Any = janus_lite.speculate(program)
    x = torch.ones(1)
    try:
        for attributes in ({}, {}, {"tag": 1}, {"tag": 1}, {"other": 2}, {}, {}):
            vars(KNOWN).clear()
            vars(KNOWN).update(attributes)
            assert repr(speculated(x)) == repr(program(x))
    finally:
        vars(KNOWN).clear()
