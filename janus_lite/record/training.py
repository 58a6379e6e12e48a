"""Training: `backward`, optimisers, schedulers, gradient scalers and clipping, each run whole.

Note [Actions]
    What these functions change is spread over gradients, parameters and the state of objects of
    torch; recording it piece by piece would fix in the graph what the optimiser looks up anew at
    each step. So each call is one operation, an *action*: a replay calls the same function on the
    objects that stand there, at the same place among the operations. Nothing it reads needs a
    guard. What it changes is outside state that the run made, so the rest of the run must not take
    it for a fact about the outside: the rules name the containers that an action changes. Only
    gradients that were let go of can be put back; a decision on a tensor's value after any other
    action keeps the function imperative.

    Code of the program's own that an action would run (a hook, a closure, a lambda of a scheduler)
    is caught by the audit net while recording.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from janus_lite.errors import Code
from janus_lite.record import attributes
from janus_lite.record.heap import instance_dict
from janus_lite.record.kinds import is_a
from janus_lite.record.session import Session
from janus_lite.record.source import Source
from janus_lite.torch_internals import submodules, trained_by

Arguments = tuple[Any, ...]
Keywords = dict[str, Any]
Rule = Callable[[Session, Any, Arguments, Keywords], Any]
_SCHEDULERS = torch.optim.lr_scheduler.LRScheduler
_STEP_HOOKS = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")
_GLOBAL_STEP_HOOKS = ("_global_optimizer_pre_hooks", "_global_optimizer_post_hooks")
# What no action changes, of the namespaces that have it.
_KEPT = frozenset({"params", "optimizer", "_enabled"})
_SCALER_METHODS = frozenset({"scale", "step", "update", "unscale_"})


def rule_of(function: types.FunctionType, args: Arguments) -> Rule | None:
    """The rule of a function that trains, `None` for any other."""
    if (rule := _RULES.get(function)) is not None:
        return rule
    module = function.__module__ or ""
    if not module.startswith(("torch.optim.", "torch.amp.")):
        return None
    name, owner = function.__name__, args[0] if args else None
    if name == "step" and getattr(function, "_wrapped_by_lr_sched", False):
        return _watched_step
    if is_a(owner, torch.optim.Optimizer) and name in ("step", "zero_grad"):
        return _optimizer if name == "step" else _zero_grad
    if is_a(owner, _SCHEDULERS) and name == "step":
        return _scheduler
    return _scaler if is_a(owner, torch.amp.GradScaler) and name in _SCALER_METHODS else None


# ------------------------------------------------------------------------------------- rules


def _backward(session: Session, function: Any, args: Arguments, kwargs: Keywords) -> Any:
    """`loss.backward(...)`, `torch.autograd.backward(...)`, `torch.autograd.grad(...)`."""
    if session.has_custom_backward:
        session.stop(Code.UNKNOWN_CALL, "a backward pass through an autograd.Function in Python")
    return _act(session, function, args, kwargs)


def _optimizer(session: Session, function: Any, args: Arguments, kwargs: Keywords) -> Any:
    """`optimizer.step()`."""
    optimizer = args[0]
    if any(closure is not None for closure in (*args[1:], *kwargs.values())):
        session.stop(Code.UNKNOWN_CALL, f"`{type(optimizer).__qualname__}.step` with a closure")
    _note_hooks(session, optimizer)
    return _changing(session, function, args, kwargs, [optimizer])


def _watched_step(session: Session, function: Any, args: Arguments, kwargs: Keywords) -> Any:
    """`optimizer.step()` after a scheduler has wrapped it, to see in which order they run."""
    names = function.__code__.co_freevars
    cells = dict(zip(names, function.__closure__ or (), strict=True))
    if "opt_ref" not in cells or args or any(v is not None for v in kwargs.values()):
        session.stop(Code.UNKNOWN_CALL, f"`{function.__qualname__}` with arguments")
        return function(*args, **kwargs)
    optimizer = cells["opt_ref"].cell_contents()
    session.heap.pin(function, function.__qualname__)
    _note_hooks(session, optimizer)
    return _changing(session, function, args, kwargs, [optimizer])


def _note_hooks(session: Session, optimizer: torch.optim.Optimizer) -> None:
    """Note how many hooks run around a step: code that the audit net sees only now."""
    tables = [attributes.load(session, optimizer, name) for name in _STEP_HOOKS]
    names = vars(sys.modules[torch.optim.Optimizer.__module__])
    tables += [session.heap.read_global(names, name) for name in _GLOBAL_STEP_HOOKS]
    for table in tables:
        session.heap.length(table)


def _scheduler(session: Session, function: Any, args: Arguments, kwargs: Keywords) -> Any:
    """`scheduler.step(...)`."""
    return _changing(session, function, args, kwargs, [args[0]])


def _scaler(session: Session, function: Any, args: Arguments, kwargs: Keywords) -> Any:
    """A method of a `GradScaler`: it may scale or not, and may step an optimiser or not."""
    changed = [a for a in args if is_a(a, torch.amp.GradScaler | torch.optim.Optimizer)]
    table = instance_dict(args[0])
    source = session.heap.source_of(args[0])
    if source is not None and table is not None:
        owner = session.heap.dict_source(source, args[0], table)
        session.heap.entry(owner, table, "_enabled")  # decides what `scale` gives back
    return _changing(session, function, args, kwargs, changed)


def _zero_grad(session: Session, function: Any, args: Arguments, kwargs: Keywords) -> Any:
    """`zero_grad()` of an optimiser or a module."""
    lets_go = (*args[1:], *kwargs.values()) in ((), (True,))
    source = session.heap.source_of(args[0])
    is_undoable = lets_go and not _is_rearranged(session, args[0])
    moves = (source,) if is_undoable and source is not None else ()
    session.tape.note_gradients(trained_by(args[0]))
    return _act(session, function, args, kwargs, moves)


def _is_rearranged(session: Session, owner: Any) -> bool:
    """Whether the run has changed which parameters `owner` has: a store that may be due later."""
    tables: list[Any]
    if is_a(owner, torch.nn.Module):
        tables = [t for m in submodules(owner) for t in (m._parameters, m._modules)]
    else:
        groups = owner.param_groups
        tables = [groups, *groups, *(group["params"] for group in groups)]
    return any(map(session.writes.is_changed, tables))


def _clip(session: Session, function: Any, args: Arguments, kwargs: Keywords) -> Any:
    """`clip_grad_norm_(parameters, ...)` and its like."""
    kwargs = dict(kwargs)
    parameters = args[0] if args else kwargs.pop("parameters")
    if not is_a(parameters, torch.Tensor):
        parameters = list(session.iterate(parameters))
    return _act(session, function, (parameters, *args[1:]), kwargs)


_RULES: dict[Any, Rule] = {
    torch.Tensor.backward: _backward,
    torch.autograd.backward: _backward,
    torch.autograd.grad: _backward,
    torch.nn.Module.zero_grad: _zero_grad,
    torch.nn.utils.clip_grad_norm_: _clip,
    torch.nn.utils.clip_grad_value_: _clip,
}


# ----------------------------------------------------------------------------------- recording


def _changing(
    session: Session, function: Any, args: Arguments, kwargs: Keywords, owners: list[Any]
) -> Any:
    """Make an action that changes the state of `owners`."""
    tables = [table for owner in owners for table in _state_of(owner)]
    result = _act(session, function, args, kwargs)
    tables += [table for owner in owners for table in _state_of(owner)]
    for table in tables:
        _forget(session, table)
    return result


def _forget(session: Session, table: Any) -> None:
    """Note that nobody knows what a replay will have in a container."""
    names = [key for key in table if is_a(key, str)] if is_a(table, dict) else []
    if _KEPT.isdisjoint(names):
        session.writes.rewritten(table)
        return
    for name in names:
        if name not in _KEPT:
            session.writes.spoiled(table, name)


def _state_of(owner: Any) -> list[Any]:
    """The containers in which an object of torch keeps what its methods change."""
    found: list[Any]
    if is_a(owner, torch.optim.Optimizer):
        return [owner.state, *owner.state.values()]
    table: dict[str, Any] = instance_dict(owner) or {}
    found = [table, *(value for value in table.values() if is_a(value, dict | list))]
    optimizer = table.get("optimizer")
    if is_a(optimizer, torch.optim.Optimizer):
        found += optimizer.param_groups
    for inner in table.get("_schedulers", ()):
        found += _state_of(inner)
    return found


def _act(
    session: Session,
    function: Any,
    args: Arguments,
    kwargs: Keywords,
    moves: tuple[Source, ...] = (),
) -> Any:
    """Run a function for real and record it as one operation.

    Outside objects among the arguments are found again by each replay.
    """
    if session.opaque:
        session.stop(Code.UNKNOWN_CALL, f"`{function.__qualname__}` in an autograd.Function")
    args, kwargs = session.numbers.fixed(args), dict(kwargs)
    operands = tuple(_operand(session, a) for a in args)
    named = {key: _operand(session, value) for key, value in kwargs.items()}
    run = partial(function, *args, **kwargs)
    return session.tape.act(function, operands, named, run, moves)


def _operand(session: Session, value: Any) -> Any:
    """What stands for an argument in the recording: its source where it is an outside object."""
    if is_a(value, (torch.nn.Module, torch.optim.Optimizer, _SCHEDULERS, torch.amp.GradScaler)):
        source = session.heap.source_of(value)
        if source is not None:
            return session.numbers.need(source)
        session.stop(Code.UNKNOWN_OBJECT, f"trains with a {type(value).__qualname__} made inside")
        return None
    return value
