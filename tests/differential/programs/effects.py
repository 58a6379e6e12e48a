"""Effects: held back, done once and in order, or not at all; each program equals eager."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, no-check-untyped-defs

from __future__ import annotations

import collections
import contextlib
import io
import logging
import sys
import types
import warnings

import torch
from tests.differential.kit import World, fresh_tensor, program
from torch import nn

LOG = logging.getLogger("user")
QUIET = logging.getLogger("user.quiet")
ONE = torch.ones(1)


class Notes:
    """Something outside that calls write to."""

    def __init__(self, **values):
        self.__dict__.update(values)


# ----------------------------------------------------------------------------- text and order


@program(hits=5)
def print_in_order_with_stores():
    notes = Notes(seen=[], last=None)

    def call(x):
        y = x * 2
        notes.last = y
        print("one", y.sum())
        notes.seen.append(y.mean())
        print(f"two {y.max():.3f}", y.shape, sep=" | ", end="!\n")
        return y + 1

    return World(call=call, state={"notes": notes})


@program(hits=5)
def print_into_a_file():
    file = io.StringIO()

    def call(x):
        print("sum", x.sum(), file=file)
        return x * 2

    return World(call=call, state={"text": Reader(file)})


class Reader:
    """Shows the text of a file to the comparison."""

    def __init__(self, file):
        self.file = file

    @property
    def __dict__(self):
        return {"text": self.file.getvalue()}


@program(hits=5)
def print_to_whatever_stdout_is():
    stack = contextlib.ExitStack()
    notes = Notes(text="")
    sink = io.StringIO()

    def call(x):
        print("mean", x.mean())
        return x + 1

    def around(step):
        @contextlib.contextmanager
        def swap():
            if step % 2:
                with contextlib.redirect_stdout(sink):
                    yield
                notes.text = sink.getvalue()
            else:
                yield

        return swap()

    return World(call=call, around=around, state={"notes": notes, "stack": stack})


@program(hits=5)
def format_specifications():
    def call(x):
        s = x.sum()
        print(f"{s} {s!r} {s:8.2f} {s!s:>40} {x} {'plain':>8} {x.shape[0]:03d}")
        return s

    return World(call=call)


@program(hits=5)
def text_of_a_tensor_that_changes_after():
    def call(x):
        y = x * 2
        print(f"before {y.sum():.4f}")
        y.add_(1)
        print("after", y)
        return y

    return World(call=call)


@program(hits=5)
def text_with_gradients():
    def call(x):
        x = x.requires_grad_(False) if x.requires_grad else x
        weight = ONE.clone().requires_grad_()
        loss = (x * weight).sum()
        print(loss, f"{loss!r}")
        return loss

    return World(call=call)


@program(hits=5)
def containers_as_they_were():
    def call(x):
        values = [x.sum()]
        print(values, {"a": x.mean()})
        values.append(x.max())
        print(values)
        return values

    return World(call=call)


@program(hits=5)
def outside_containers_shown():
    table = {"name": "run", "sizes": [1, 2]}

    def call(x):
        print(table, type(x))
        return x * 2

    return World(call=call)


@program(hits=5)
def object_with_python_text():
    class Meter:
        def __init__(self):
            self.name = "meter"

        def __str__(self):
            return f"<{self.name}>"

    meter = Meter()

    def call(x):
        print("at", meter)
        return x * 2

    def change():
        meter.name = "other"

    return World(call=call, change=change)


@program(hits=5)
def records_of_all_levels():
    def call(x):
        LOG.debug("d %s", x)
        LOG.info("i %s", x)
        LOG.warning("w %.3f", x.sum())
        LOG.error(f"e {x.mean():.2f}")
        LOG.critical("%(a)s", {"a": x.max()})
        LOG.log(35, "l %d %s", x.sum(), "text")
        logging.warning("root %s", x.min())
        return x * 2

    return World(call=call)


@program(hits=4)
def levels_change():
    def call(x):
        QUIET.info("info %s", x.sum())
        return x * 2

    def between(step):
        QUIET.setLevel(logging.INFO if step != 2 else logging.ERROR)

    return World(call=call, between=between)


@program(hits=2)
def level_that_was_too_low():
    def call(x):
        LOG.getChild("child").debug("debug %s", x.sum())
        return x * 2

    def change():
        LOG.getChild("child").setLevel(logging.DEBUG)

    def between(step):
        if step == 0:
            LOG.getChild("child").setLevel(logging.NOTSET)

    return World(call=call, change=change, between=between)


def helper(x):
    LOG.warning("from the helper's caller", stacklevel=2)
    LOG.warning("from the caller of all", stacklevel=3)
    LOG.warning("from far away", stacklevel=1000)
    warnings.warn("in the caller", stacklevel=2)
    warnings.warn(f"outside {x.sum():.2f}", RuntimeWarning, 3)
    return x * 2


@program(hits=5)
def levels_of_the_stack():
    def call(x):
        return helper(x) + 1

    return World(call=call)


@program(hits=5)
def warnings_of_the_default_filter():
    def call(x):
        with_registry(x)
        return x * 2

    def around(step):
        @contextlib.contextmanager
        def once():
            with warnings.catch_warnings():
                warnings.simplefilter("default")
                yield

        return once()

    return World(call=call, around=around)


def with_registry(x):
    warnings.warn("the same each time", stacklevel=1)
    warnings.warn(f"another one each time {x.sum()}", stacklevel=1)


@program(hits=3)
def warnings_as_errors():
    notes = Notes(before=None, after=None)

    def call(x):
        notes.before = x + 1
        print("before")
        warnings.warn("may be an error", stacklevel=1)
        notes.after = x + 2
        print("after")
        return x * 2

    def around(step):
        @contextlib.contextmanager
        def strict():
            with warnings.catch_warnings():
                if step in (3, 4):
                    warnings.simplefilter("error")
                yield

        return strict()

    return World(call=call, around=around, state={"notes": notes})


@program(hits=5)
def adapter_of_a_logger():
    adapter = logging.LoggerAdapter(LOG, {"who": "me"})

    def call(x):
        adapter.warning("adapted %s", "text")
        return x * 2

    return World(call=call)


@program(hits=5)
def extra_of_a_record():
    def call(x):
        LOG.warning("with extra %s", x.sum(), extra={"step": 3})
        return x * 2

    return World(call=call)


class Chatty(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.last = None

    def forward(self, x):
        y = self.norm(x)
        print("norm", y.mean())
        self.last = y.detach()
        return torch.dropout(y, 0.5, self.training)


@program(hits=5)
def module_that_prints_and_trains():
    return World(call=Chatty())


# ------------------------------------------------------------------------------------ refused


@program(code="JL0302")
def print_inside_try():
    def call(x):
        try:
            print("shape", x.shape)
        except ValueError:
            return x
        return x * 2

    return World(call=call)


@program(code="JL0302")
def log_with_a_traceback():
    def call(x):
        LOG.warning("here", stack_info=bool(x.shape))
        return x * 2

    # the text of the stack has our frames in it, so only the message is compared
    return World(call=call)


@program(code="JL0403")
def text_kept_outside():
    notes = Notes(lines=[])

    def call(x):
        notes.lines.append(f"sum {x.sum():.3f}")
        return x * 2

    return World(call=call, state={"notes": notes})


@program(code="JL0407")
def print_before_a_change_and_a_decision():
    def call(x):
        y = x * 2
        print(y.sum())
        y.add_(1)
        return y if y.sum() > -1000 else -y

    return World(call=call)


@program(code="JL0302")
def category_with_code():
    class Mine(UserWarning):
        def __init__(self, text):
            super().__init__(text.upper())

    def call(x):
        warnings.warn("mine", Mine, stacklevel=1)
        return x * 2

    return World(call=call)


# ------------------------------------------------------------------- decisions and outside state


@program(hits=5)
def decision_after_print_and_store():
    notes = Notes(last=None)

    def call(x):
        y = x * 2
        print("y", y.sum())
        notes.last = y
        if y.sum() > -1000:
            print("small")
        return y + 1

    return World(call=call, state={"notes": notes})


def signs(step):
    """A tensor whose sign alternates."""
    return (fresh_tensor(step)[0].abs() * (-1 if step % 3 == 2 else 1),)


@program(hits=2)
def decision_after_a_write():
    total, notes = torch.zeros(4, 3), Notes(last=None)

    def call(x):
        total.add_(x)
        notes.last = x * 2
        if x.sum() > 0:
            print("up")
            return total * 2
        print("down")
        return total - 1

    return World(call=call, inputs=signs, state={"total": total, "notes": notes})


@program(hits=2)
def decision_after_a_write_through_a_view():
    total = torch.zeros(3, 4, 3)

    def call(x):
        total[1].mul_(0.5).add_(x)
        total.view(-1)[0] = 7.0
        return total.sum(0) if x.sum() > 0 else total.mean(0)

    return World(call=call, inputs=signs, state={"total": total})


@program(hits=2)
def decision_after_draws():
    def call(x):
        noise = torch.rand(4, 3)
        y = torch.dropout(x, 0.5, True) + noise
        print("drawn")
        return y * 2 if x.sum() > 0 else y - torch.randn(4, 3)

    return World(call=call, inputs=signs)


@program(hits=2)
def decision_after_draws_of_a_generator():
    generator = torch.Generator().manual_seed(1)
    shown = torch.zeros(2, dtype=torch.uint8)

    def call(x):
        y = x + torch.rand(4, 3, generator=generator)
        return y * 2 if x.sum() > 0 else y - 1

    def between(step):
        shown.copy_(generator.get_state()[:2])

    return World(call=call, inputs=signs, between=between, state={"generator": shown})


class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.calls = []

    def forward(self, x):
        y = self.norm(x)
        self.calls.append(y.mean().detach())
        if x.sum() > 0:
            return y * 2
        return y


@program(hits=2)
def decision_after_batch_norm():
    return World(call=Normed(), inputs=signs, backward=True)


@program(hits=2)
def earlier_graph_survives_a_called_off_replay():
    total = torch.ones(4, 3)
    weight = torch.ones(4, 3, requires_grad=True)
    notes = Notes(losses=[])

    def call(x):
        total.data.mul_(1.5)
        return total * weight if x.sum() > 0 else total - weight

    def between(step):
        for loss in notes.losses:
            loss.backward()
        notes.losses[:] = [(total * weight).sum()]

    return World(
        call=call, inputs=signs, between=between, state={"weight": weight, "total": total}
    )


@program(hits=2)
def version_counters_after_a_called_off_replay():
    total = torch.ones(4, 3)
    notes = Notes(versions=[])

    def call(x):
        total.add_(1)
        return total * 2 if x.sum() > 0 else total - 1

    def between(step):
        notes.versions.append(total._version)

    return World(call=call, inputs=signs, between=between, state={"notes": notes})


@program(hits=2)
def inputs_that_alias_only_sometimes():
    whole = torch.zeros(8, 3)

    def inputs(step):
        x = signs(step)[0]
        first = whole[:4]
        second = whole[:4] if step % 2 else torch.zeros(4, 3)
        return x, first, second

    def call(x, first, second):
        first.add_(x)
        second.mul_(2)
        return first + second if x.sum() > 0 else first - second

    return World(call=call, inputs=inputs, state={"whole": whole})


@program(code="JL0407")
def decision_after_a_write_with_history():
    def call(x):
        y = x.requires_grad_() if not x.requires_grad else x
        return y

    weight = torch.ones(4, 3, requires_grad=True)

    def step(x, held):
        held.mul_(weight)
        return held * 2 if x.sum() > -1000 else held

    def inputs(step):
        return fresh_tensor(step)[0], weight * 1.0

    return World(call=step, inputs=inputs, backward=True)


@program(hits=5)
def object_that_changes_after_it_was_stored():
    notes = Notes(history=None)

    def call(x):
        notes.history = table = {"a": x * 2}
        notes.history["b"] = x + 1
        table["c"] = [x.sum()]
        table["c"].append(x.mean())
        return x

    return World(call=call, state={"notes": notes})


@program(hits=5)
def list_extended_by_a_list_that_grows():
    history = []

    def call(x):
        buffer = [x.sum()]
        history.extend(buffer)
        buffer.append(x.mean())
        history.append(buffer)
        buffer.append(x.max())
        return x

    return World(call=call, state={"history": history})


@program(hits=5)
def stored_object_is_the_returned_one():
    notes = Notes(last=None)

    def call(x):
        made = {"x": x * 2}
        notes.last = made
        notes.seen = made
        return made

    return World(call=call, state={"notes": notes})
