"""A run that data sent another way than a graph: both as one program."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from janus_lite.errors import Code, Reason
from janus_lite.program.alike import Unmergeable
from janus_lite.program.generalize import Program, generalize_together, has_loops
from janus_lite.record.source import key_of
from janus_lite.record.trace import Input, Trace
from janus_lite.runtime.cache import Conversion
from janus_lite.runtime.emit import Leave

_log = logging.getLogger(__name__)
_MOST_WAYS = 32  # runs that one graph is made of
Together = tuple[Program, tuple[torch.Tensor, ...]]


@dataclass(frozen=True, slots=True, eq=False)
class Sibling:
    """A graph with which a new run may be merged.

    Attributes:
        conversion: the graph.
        held: its inputs in the call that is recorded.
    """

    conversion: Conversion
    held: dict[Input, torch.Tensor]


def sibling_of(
    conversion: Conversion, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Sibling | None:
    """A graph that data called off, with its inputs as they are before the call."""
    held = conversion.emitted.check(args, kwargs)
    if isinstance(held, Leave) or len(conversion.program.traces) >= _MOST_WAYS:
        return None
    return Sibling(conversion, dict(zip(conversion.program.inputs, held, strict=True)))


def together(
    trace: Trace,
    positional: int,
    keywords: tuple[str, ...],
    sibling: Sibling | None,
    note: Callable[[Reason], None],
) -> Together | None:
    """One program of a graph's runs and one more, with an example of each input.

    Args:
        trace: the new run.
        positional: number of positional arguments of the recorded call.
        keywords: names of its keyword arguments.
        sibling: the graph, if there is one.
        note: gets the reason when merging itself fails.

    Returns:
        `None` where they do not fit, or where the run alone has no control flow to speak of.
    """
    earlier = () if sibling is None else sibling.conversion.program.traces
    held = {} if sibling is None else sibling.held
    for traces in ((*earlier, trace), (trace,)):
        if len(traces) == 1 and not has_loops(trace):
            continue
        try:
            program = generalize_together(traces, positional, keywords)
        except Unmergeable as error:
            _log.info("kept apart: %s", error)
        except Exception as error:  # a bug of ours must not cost the user's result
            note(Reason(Code.INTERNAL, f"merging runs: {type(error).__name__}: {error}"))
        else:
            if isinstance(program, Program):
                return program, _examples(program, trace, held)
    return None


def _examples(
    program: Program, trace: Trace, held: dict[Input, torch.Tensor]
) -> tuple[torch.Tensor, ...]:
    known = {key_of(item.source): tensor for item, tensor in held.items()}
    found = zip(trace.inputs, trace.examples, strict=True)
    known |= {key_of(item.source): tensor for item, tensor in found}
    return tuple(known[key_of(item.source)] for item in program.inputs)
