"""Take a speculated call apart: what of it is guards, and what of those is the module tree.

Enters: a speculated program that has replayed. Leaves: one callable per part, each doing what the
call itself does in that part. Invariant: a part runs the very objects that the call runs, so it
cannot flatter; this file alone knows where the runtime keeps them.

Example:
    >>> parts_of(runner).keys()
    dict_keys(['entry_check', 'module_tree'])
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from benchmarks.baselines import speculative_function
from benchmarks.cases import Runner
from benchmarks.measure import CONVERSION_SEED

PARTS = ("entry_check", "module_tree")


def parts_of(runner: Runner) -> dict[str, Callable[[], object]]:
    """Return the parts of a call with `CONVERSION_SEED`'s inputs.

    `entry_check` is all guards and the loading of what the graph reads. `module_tree` is the quick
    accept over everything on the heap that the recording read; programs with few guards check
    those one by one and have none. Keep `runner` while the parts are used: guards hold it weakly.
    """
    call = runner.inputs(CONVERSION_SEED)
    (conversion,) = speculative_function(runner.target).cache.entries
    emitted = conversion.emitted
    if not isinstance(emitted.check(call.args, call.kwargs), tuple):
        raise RuntimeError("the guards do not hold: the time of a miss is not the time of a check")
    parts: dict[str, Callable[[], object]] = {
        "entry_check": partial(emitted.check, call.args, call.kwargs)
    }
    if emitted.fingerprint is not None:
        read = emitted.fingerprint.read
        words = read()
        parts["module_tree"] = lambda: read() == words
    return parts
