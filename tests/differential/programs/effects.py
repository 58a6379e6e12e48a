"""Effects: held back, done once and in order, or not at all; each program equals eager."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, no-check-untyped-defs

from __future__ import annotations

import collections
import contextlib
import io
import logging
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
        loss = (x * weight).sum()
        print(loss, f"{loss!r}", weight)
        return loss

    weight = torch.nn.Parameter(torch.ones(3))
    return World(call=call, backward=True)


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


@program(hits=4)
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

    return World(call=call, inputs=signs, between=between, state={"weight": weight, "total": total})


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


# ---------------------------------------------------------------- attributes, items, containers


@program(hits=5)
def attribute_deleted():
    notes = Notes()

    def call(x):
        del notes.scratch
        return x * 2

    return World(
        call=call, between=lambda _: setattr(notes, "scratch", ONE), state={"notes": notes}
    )


@program(hits=5)
def attribute_set_and_deleted():
    notes = Notes(kept=None)

    def call(x):
        notes.scratch = x * 2
        y = notes.scratch + 1
        del notes.scratch
        notes.kept = hasattr(notes, "scratch")
        return y

    return World(call=call, state={"notes": notes})


@program(hits=2)
def attribute_that_is_gone():
    notes = Notes(scratch=ONE)

    def call(x):
        if hasattr(notes, "scratch"):
            del notes.scratch
        return x * 2

    return World(call=call, state={"notes": notes})


@program(hits=5)
def module_attribute_deleted():
    model = nn.Linear(3, 3)

    def call(x):
        model.scratch = x.mean()
        y = model(x) * model.scratch
        del model.scratch
        return y

    return World(call=call, state={"model": model})


@program(hits=5)
def items_deleted():
    table, values = {}, []

    def call(x):
        del table["x"]
        del values[0]
        del values[1:]
        return x * 2

    def between(step):
        table["x"] = ONE
        values[:] = [1, 2, 3]

    return World(call=call, between=between, state={"table": table, "values": values})


@program(hits=2)
def missing_item_deleted():
    table = {}

    def call(x):
        y = x * 2
        print("before")
        del table["x"]
        return y

    def between(step):
        if step < 4:
            table["x"] = ONE

    return World(call=call, between=between, state={"table": table})


@program(hits=5)
def slices_stored():
    values = [0, 1, 2, 3]

    def call(x):
        values[1:3] = [x.sum(), x.mean()]
        return x * 2

    return World(call=call, state={"values": values})


@program(hits=5)
def elements_popped():
    values, window = [], collections.deque(maxlen=4)

    def call(x):
        last, first = values.pop(), window.popleft()
        notes.last = last
        return x * last + first * 2

    notes = Notes(last=None)

    def between(step):
        values[:] = [ONE * step, ONE * 2]
        window.clear()
        window.extend([ONE * 3 * step, ONE])

    state = {"values": values, "window": window, "notes": notes}
    return World(call=call, between=between, state=state)


@program(hits=5)
def keys_popped():
    table, other = {}, {}

    def call(x):
        y = x * table.pop("a")
        y = y + table.pop("missing", 3.0)
        name, value = other.popitem()
        print(name)
        return y - value, "a" in table

    def between(step):
        table.update(b=ONE, a=ONE * step)
        other.update(b=ONE, c=ONE + step)

    return World(call=call, between=between, state={"table": table, "other": other})


@program(hits=4)
def defaults_set():
    table, groups = {}, collections.defaultdict(list)

    def call(x):
        first = table.setdefault("first", x * 1)
        groups["a"].append(x.sum())
        return first + x

    def between(step):
        if step < 2:
            table.clear()
            groups.clear()

    return World(call=call, between=between, state={"table": table, "groups": groups})


@program(hits=5)
def operators_in_place():
    notes = Notes(values=[], table={}, names={"a"}, window=collections.deque(maxlen=3))

    def call(x):
        notes.values += [x.sum()]
        notes.table |= {"x": x.mean()}
        notes.names |= {"b", "c"}
        notes.names -= {"a"}
        notes.window += (x.max(), x.min())
        return x * 2

    return World(call=call, state={"notes": notes})


@program(hits=5)
def many_methods():
    values, names, window = [], set(), collections.deque(maxlen=5)
    ordered = collections.OrderedDict()

    def call(x):
        values.insert(0, x.sum())
        values.reverse()
        values.extend(t for t in (x.mean(), x.max()))
        names.update(["a", "b"])
        names.discard("a")
        window.appendleft(x.min())
        window.extendleft([x.sum()])
        window.rotate(2)
        ordered["x"] = x.mean()
        ordered.update({"y": x.max()})
        return x * 2

    state = {"values": values, "names": names, "window": window, "ordered": ordered}
    return World(call=call, state=state)


@program(hits=5)
def plain_values_removed_and_sorted():
    values, names = [], set()

    def call(x):
        names.remove("b")
        values.remove(2)
        return x * 2

    def between(step):
        values[:] = [3, 2, 1]
        names.update("abc")

    return World(call=call, between=between, state={"values": values, "names": names})


@program(hits=5)
def list_sorted_outside():
    values = []

    def call(x):
        values.sort()
        return x * 2

    return World(
        call=call, between=lambda _: values.__setitem__(slice(None), [3, 1]), state={"v": values}
    )


@program(hits=2)
def shorter_list_than_recorded():
    values = [0, 1]

    def call(x):
        y = x * 2
        print("before")
        try:
            values[1] = y
        except IndexError:
            print("too short")
        return y

    def change():
        del values[1]

    return World(call=call, change=change, state={"values": values})


LATEST = None


@program(hits=5)
def global_stored():
    def call(x):
        global LATEST
        before = LATEST
        LATEST = x * 2
        return x if before is None else LATEST

    state = {"globals": Globals()}
    return World(call=call, between=lambda _: globals().update(LATEST=None), state=state)


class Globals:
    """Shows a global of this file to the comparison."""

    @property
    def __dict__(self):
        return {"latest": LATEST}


@program(hits=4)
def global_tensor_carried_on():
    def call(x):
        global LATEST
        LATEST = x if LATEST is None else LATEST + x
        return LATEST * 2

    return World(call=call, state={"globals": Globals()})


class Slotted:
    __slots__ = ("last", "name")

    def __init__(self):
        self.last = None
        self.name = "slotted"


@program(hits=5)
def slot_stored():
    slotted = Slotted()

    def call(x):
        slotted.last = x * 2
        return slotted.last + 1

    return World(call=call, state={"slotted": slotted})


@program(hits=5)
def set_element_popped():
    names = set()

    def call(x):
        return x, names.pop()

    return World(call=call, between=lambda _: names.update("a"), state={"names": names})


@program(code="JL0301")
def consumed_iterator_that_fails():
    values = []

    def broken(x):
        yield x.sum()
        raise ValueError("broken")

    def call(x):
        try:
            values.extend(broken(x))
        except ValueError:
            print("broken")
        return x * 2

    return World(call=call, state={"values": values})


def keeper(start):
    """Two functions over one variable, and its text for the comparison."""
    last = start

    def advance(x):
        nonlocal last
        before = last
        last = x * 2 if before is None else before + x
        return last

    def look(x):
        return x if last is None else last

    class Shown:
        @property
        def __dict__(self):
            return {"last": last}

    return advance, look, Shown()


@program(hits=4)
def closure_tensor_carried_on():
    advance, _, shown = keeper(None)

    return World(call=lambda x: advance(x) + 1, state={"shown": shown})


@program(hits=3)
def closure_number_counted():
    advance, _, shown = keeper(1)

    def call(x):
        return x * advance(2)

    return World(call=call, state={"shown": shown})


@program(hits=4)
def closure_read_by_another_function():
    advance, look, shown = keeper(None)

    def call(x):
        y = advance(x)
        return y, look(x), [look(x) * i for i in (1, 2)]

    return World(call=call, state={"shown": shown})


@program()
def two_closures_of_one_function():
    first, _, one = keeper(1)
    second, _, other = keeper(1)

    def call(x):
        return x * first(2) + second(3)

    return World(call=call, state={"one": one, "other": other})


@program(hits=3)
def closures_with_different_content():
    first, _, one = keeper(None)
    second, _, other = keeper(torch.ones(4, 3))

    def call(x):
        return first(x) + second(x * 3)

    return World(call=call, state={"one": one, "other": other})


@program(hits=4)
def closure_variable_in_a_comprehension():
    total = torch.zeros(3)

    def call(x):
        nonlocal total
        rows = [row + total for row in x]
        total = total + sum(rows)
        (total, rest), more = (total * 2, 1), 2
        return total * rest * more

    class Shown:
        @property
        def __dict__(self):
            return {"total": total}

    return World(call=call, state={"shown": Shown()})


@program(code="JL0301")
def closure_variable_deleted():
    scratch = ONE

    def fill():
        nonlocal scratch
        scratch = ONE

    def call(x):
        nonlocal scratch
        del scratch
        return x * 2

    return World(call=call, between=lambda _: fill())


@program(code="JL0301")
def closure_variable_in_a_generator():
    total = 1.0

    def call(x):
        nonlocal total
        y = sum(x * total for _ in range(2))
        total = 2.0
        return y

    return World(call=call)


@program(hits=5)
def text_shown_in_finally():
    def call(x):
        try:
            y = x.sum()
        finally:
            print("sum of", x.shape)
            LOG.warning("leaving %s", x.mean())
        return y

    return World(call=call)


@program(hits=5)
def returned_from_finally():
    seen = []

    def call(x):
        for _ in range(2):
            try:
                y = x * 2
                continue
            finally:
                seen.append(1)
                print("turn")
        try:
            return y
        finally:
            print("end", y.sum())
            seen.append(y)

    return World(call=call, state={"seen": seen})


@program(hits=4)
def closure_variable_assigned_in_finally():
    last = None

    def call(x):
        nonlocal last
        try:
            y = x * 2 if last is None else last + x
        finally:
            last = x
        return y

    return World(call=call)


@program(code="JL0301")
def closure_variable_of_a_loop():
    last = None

    def call(x):
        nonlocal last
        for last in (1, 2):
            x = x * 2
        return x

    return World(call=call)


@program(hits=2)
def varying_number_in_a_name():
    holder = Notes(step=0, layer0=ONE, layer1=ONE * 2, layer2=ONE * 3)

    def call(x):
        print(f"step {holder.step} of {x.sum():.1f}")
        return x * getattr(holder, f"layer{holder.step % 3}")

    def between(step):
        holder.step = step % 2

    return World(call=call, between=between, state={"holder": holder})


@program(hits=4)
def number_of_a_tensor_in_a_text():
    def call(x):
        loss = x.sum().item()
        print(f"loss {loss:.3f}", loss)
        LOG.warning("loss %.2f %s", loss, float(x.mean()))
        return x * 2

    return World(call=call)
