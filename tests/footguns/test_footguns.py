"""Known differences from eager, each with the value that one would expect in a comment.

What stands here is on purpose and in `docs/limits.md`; a change of behaviour must show up.
"""

from __future__ import annotations

import gc
import traceback
import weakref
from typing import Any

import torch

import janus_lite
from janus_lite import config


def test_a_stack_walked_by_hand_shows_the_recorder_in_a_recorded_call() -> None:
    def call(x: torch.Tensor) -> int:
        return len(traceback.extract_stack())

    function: Any = janus_lite.speculate(call)

    assert function(torch.ones(2)) > call(torch.ones(2))  # equal in eager; frames of ours are there


def test_a_traceback_of_the_first_call_has_frames_of_the_recorder() -> None:
    def call(x: torch.Tensor) -> torch.Tensor:
        raise ValueError("mine")

    files = []
    for function in (call, janus_lite.speculate(call)):
        try:
            function(torch.ones(2))
        except ValueError as error:
            files.append({frame.filename for frame in traceback.extract_tb(error.__traceback__)})

    plain, recorded = files
    assert plain < recorded  # equal in eager; the user's own frames are all there


def test_a_graph_keeps_plain_objects_alive_until_it_is_dropped() -> None:
    class Thing:
        factor = 2.0

    held = [Thing()]
    function: Any = janus_lite.speculate(lambda x: x * held[0].factor)
    function(torch.ones(2))
    alive = weakref.ref(held[0])

    held.clear()
    gc.collect()
    assert alive() is not None  # dead in eager; only modules are held weakly

    function.reset()
    gc.collect()
    assert alive() is None


def test_an_intermediate_may_die_earlier_than_in_eager() -> None:
    function: Any = janus_lite.speculate(lambda x: (x * 2).sum())
    function(torch.ones(2))

    assert function(torch.ones(2)).item() == 4.0  # the product is freed at its last use
    assert "del " in function.code()


def test_without_the_audit_net_code_that_c_calls_is_unseen() -> None:
    state = [2.0]

    class Defaults(dict[str, float]):
        def __missing__(self, key: str) -> float:
            return state[0]

    table = Defaults()
    function: Any = janus_lite.speculate(lambda x: x * table["a"])
    with config.patch(audit=False):
        function(torch.ones(1))
        state[0] = 3.0
        assert function(torch.ones(1)).item() == 2.0  # 3.0 in eager and with the net
