"""Function regions, the replay's side: enter the callee's graphs, compare what they gave.

See Note [Function regions] in `record/subcalls.py`.
"""

from __future__ import annotations

from collections.abc import Callable

from janus_lite.record.trace import Answer, Nested, Operation, Ref
from janus_lite.runtime.guards import Names
from janus_lite.torch_internals import tensor_guard


def call_lines(
    operation: Operation,
    names: Names,
    value: Callable[[object], str],
    *,
    token: str,
    undo: str,
    leave: str,
) -> list[str]:
    """Return the code of an operation that enters a function region.

    Args:
        operation: of kind `CALL`.
        names: shared names of the module.
        value: gives the text of an operand.
        token: the name of the outermost call's token, or `None`.
        undo: the statement that puts changes back, with its separator; empty where there are none.
        leave: the statement that reports that the answer was another one.
    """
    args, kwargs, _ = operation.args
    answer = operation.expected
    assert isinstance(answer, Answer)
    region = names.constant(operation.target, "region")
    checks, bindings = list[str](), list[str]()
    _unnest(answer.structure, "called", list(answer.fresh), checks, bindings)
    lines = [
        f"called = {region}({value(args)}, {value(kwargs)}, {token})",
        f"if type(called) is Leave: {undo}return called",
    ]
    if checks:
        lines.append(f"if not ({' and '.join(checks)}): {leave}")
    lines += [*bindings, "del called"]
    if answer.fresh:
        fresh = [f"v{ref.index}" for ref in answer.fresh]
        exact = [()] * len(answer.examples)
        match = names.constant(tensor_guard(answer.examples, exact, exact), "answers_match")
        answer.examples.clear()
        lines.append(f"if not {match}({', '.join(fresh)}): {leave}")
    return lines


def _unnest(
    structure: object, text: str, fresh: list[Ref], checks: list[str], bindings: list[str]
) -> None:
    """Gather the checks of what stands at `text`, and the names of the new tensors in it."""
    if structure is None:
        checks.append(f"{text} is None")
    elif isinstance(structure, Ref) and structure in fresh:
        fresh.remove(structure)
        bindings.append(f"v{structure.index} = {text}")
    elif isinstance(structure, Ref):
        same = f"v{structure.index}"
        bound = {b.partition(" = ")[0]: b.partition(" = ")[2] for b in bindings}
        checks.append(f"{text} is {bound.get(same, same)}")
    else:
        assert isinstance(structure, Nested)
        checks.append(f"type({text}) is {structure.cls.__name__}")
        if structure.keys is None:
            checks.append(f"len({text}) == {len(structure.parts)}")
            places: list[str] = [str(index) for index in range(len(structure.parts))]
        else:
            checks.append(f"tuple({text}) == {structure.keys!r}")
            places = [repr(key) for key in structure.keys]
        for place, part in zip(places, structure.parts, strict=True):
            _unnest(part, f"{text}[{place}]", fresh, checks, bindings)
