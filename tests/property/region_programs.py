"""Random programs whose control flow depends on data, as source text.

Each is a function `step(o, x, xs, n)` or a module's `forward(x, xs, n)` over `x: f32[3]`,
`xs: f32[any, 3]` and a number `n`; `o` is an object that keeps state between the calls. Statements
nest: branches, loops that may break, continue, return or end in `else`, calls of helpers with
early returns, recursion, names that are bound to `None` or to a number in one arm and to a tensor
in the other, lists, attributes, changes in place. Every loop is bounded, so every program ends;
some raise, which is something to be equal in as well.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, fields

FRAME = """\
import torch
import torch.nn.functional as F
from torch import nn

COUNT = 0


class Cell(nn.Module):
    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor([0.9, -0.6, 0.4]))
        self.layers = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])
        self.register_buffer("total", torch.zeros(3))
        self.h = None
        self.count = 0
        self.last = 0.5
        self.log = []
        self.table = {{"k": 1}}

    def pick(self, a, k):
{pick}

    def forward(self, x, xs, n):
{forward}


def helper(a, b):
{helper}


def pair(a, k):
{pair}


def walk(a, k):
    if k <= 0 or {walk_test}:
        return a
    return walk({walk_step}, k - 1) + {walk_rest}


def step(o, x, xs, n):
{step}
"""

TENSORS = (
    "torch.tanh({a})",
    "{a} * 0.5",
    "{a} - {b}",
    "{a} + {b} * 0.25",
    "{a} + 0.25",
    "-{a}",
    "torch.relu({a})",
    "{a} * {f}",
    "{a} + {k}",
    "{a} + {s}",
    "{o}.layers[0]({a})",
    "F.linear({a}, {o}.layers[1].weight)",
    "{a}.flip(0)",
    "torch.where({a} > 0, {a}, {b})",
    "{a} * {o}.gain",
    "{a}.clamp(-2, 2)",
    "{a} + {o}.total",
    "xs[{k} % xs.shape[0]] + {a}",
    "xs.mean(0) - {a}",
    "torch.zeros(3) + {a}[0]",
    "torch.stack([{a}, {b}]).sum(0)",
    "{a} * {o}.last",
    "{a} + {o}.count * 0.125",
    "{a}.clone()",
    "{b}",
    "x",
)
CALLS = ("helper({a}, {b})", "helper({b}, {a})", "walk({a}, {k} % 3)")
CALLS_OF_METHODS = ("{o}.pick({a}, {k})",)
DATA_TESTS = (
    "{a}.sum() > {c}",
    "({a} > {c}).any()",
    "bool({a}.max() > {b}.max())",
    "{a}[0] < {b}[1]",
    "{a}.mean().item() > {c}",
    "torch.all({a} < 1)",
    "float({a}[0]) > {c}",
    "{a}.argmax() == 1",
    "int({a}.argmax()) == {k}",
    "-1 < {a}.sum() < 1",
    "{a}.sum() > 0 and {b}.sum() > 0",
    "{a}.norm() > 1.5 or {k} > 2",
    "not {a}[2] > {c}",
    "{a}.sum() > {s}",
    "torch.equal({a}, {b})",
    "{a}.sum()",
)
HOST_TESTS = (
    "{k} % 2 == 0",
    "{k} > 2",
    "n > 1",
    "{k} == n",
    "len({l}) > 2",
    "{l}",
    "{flag}",
    "not {flag}",
    "{f} > 0.3",
    "{m} is None",
    "{m} is not None and {m}.sum() > 0",
    "{m} is None or {m}[0] > {c}",
    "{o}.h is None",
    "{o}.count % 3 == 0",
    "{o}.last > 0.2",
    "len({o}.log) > 3",
    "{a} is {b}",
    "xs.shape[0] > 2",
)
INTS = (
    "{k} + 1",
    "int({a}.abs().sum()) % 4",
    "{a}.argmax().item()",
    "len({l})",
    "({k} * 2 + 1) % 7",
    "n",
    "min({k}, 3)",
    "{k} or 2",
    "{o}.count % 4",
    "2 if {test} else 1",
    "xs.shape[0]",
)
FLOATS = (
    "{f} * 0.5 + 0.1",
    "{a}.mean().item()",
    "float({a}[1])",
    "{k} / 4",
    "max({f}, 0.25)",
    "0.5 if {test} else 0.75",
    "{o}.last",
)
SUMS = (
    "{s} + {a}.sum()",
    "{s} * 0.5",
    "{a}.sum()",
    "0",
    "sum(row.sum() for row in xs)",
    "{s} + {f}",
    "{a}.max() if {test} else 0.5",
)
LISTS = (
    "{l}.append({a})",
    "{l}.append({a} * 0.5)",
    "{l} = [*{l}, {b}]",
    "{l} = []",
    "{l} = [v * 0.5 for v in {l}]",
    "{l} = {l}[1:]",
    "{l}.extend([{a}, {b}])",
    "{l}.reverse()",
)
STATE = (
    "{o}.count += 1",
    "{o}.log.append({k})",
    "{o}.log.append({f})",
    "{o}.last = {f}",
    '{o}.table["k"] = {k}',
    '{o}.table["seen"] = {o}.table["k"] + 1',
    "COUNT += 1",
    "{o}.h = None",
    "{o}.h = {a}.detach()",
    "{o}.log = [{k}]",
    "{o}.note = {k}",
    "{o}.total = {a}.detach()",
)
IN_PLACE = (
    "{a} = {a}.clone(); {a}.mul_(0.5)",
    "{a} = {a} + 0; {a} *= 0.5",
    "{a} = {a}.clone(); {a}[{k} % 3] = 0.5",
    "{o}.total.add_({a}.detach(), alpha=0.25)",
    "{o}.total[{k} % 3] += 0.5",
    "{o}.total.mul_(0.5)",
)
IN_PLACE_ANYWHERE = (
    "{a}.add_(0.25)",
    "{a} *= 0.5",
    "{a}[1] = 0.25",
    "xs[0].mul_(0.5)",
    "x.sub_(0.125)",
)
SWAPS = (
    "{a}, {b} = {b}, {a}",
    "{a}, {b} = {b}, {a} * 0.5 + {b}",
    "{a}, {b} = {a} - {b}, {a}",
    "{a}, {k} = pair({a}, {k})",
    "({a}, {b}), {k} = ({b}, {a}), {k} + 1",
)
GUARDED = (
    ("if {l}:", "{a} = {a} + {l}[-1]"),
    ("if {l}:", "{b} = {l}.pop()"),
    ("if len({l}) > 1:", "{a} = torch.stack({l}).mean(0)"),
    ("if {o}.h is not None:", "{a} = {a} + {o}.h"),
    ("if {m} is not None:", "{a} = {a} - {m}"),
)
RETURNS = (
    "{a}",
    "{a}, {k}",
    "{a}, {b}",
    "{l}",
    "{m}",
    '{{"a": {a}, "f": {f}}}',
    "{a}.sum()",
    "{k}",
    "None",
    "{a}, {m}, {flag}",
    "[{a}, {s}]",
    "{a} if {test} else {b}",
)
RANGES = (
    "n",
    "min({k}, 4)",
    "3",
    "2",
    "int({a}.abs().sum()) % 4",
    "min(len({l}), 3)",
    "1, 4",
    "n, 0, -1",
)
ITERABLES = (
    "xs",
    "xs[:2]",
    "{l}[:3]",
    "torch.stack([{a}, {b}])",
    "xs.unbind(0)",
    "({a}, {b})",
    "reversed({l}[:3])",
)


@dataclass(slots=True)
class Names:
    """Which names are bound here for certain, by what they hold.

    Attributes:
        tensors: `f32[3]`.
        maybes: a tensor or `None`.
        ints: small whole numbers.
        floats: numbers.
        sums: a number or a tensor with one element.
        flags: truth values.
        lists: lists of tensors.
    """

    tensors: list[str] = field(default_factory=list)
    maybes: list[str] = field(default_factory=list)
    ints: list[str] = field(default_factory=list)
    floats: list[str] = field(default_factory=list)
    sums: list[str] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)
    lists: list[str] = field(default_factory=list)

    def copy(self) -> Names:
        """What an arm starts with."""
        return Names(*(list(getattr(self, f.name)) for f in fields(self)))


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionProgram:
    """One random program.

    Attributes:
        seed: makes the same program again.
        is_large: 40 lines and more, instead of 5 to 12.
        text: the source.
        is_module: its subject is `Cell.forward`, not `step`.
        has_grad: gradients flow, and are compared.
        rows: how many rows `xs` may have, from and to.
        trips: what `n` may be, from and to.
    """

    seed: int
    is_large: bool
    text: str
    is_module: bool
    has_grad: bool
    rows: tuple[int, int]
    trips: tuple[int, int]


class Body:
    """Draws the statements of one function.

    Args:
        rng: decides everything.
        names: what is bound on entry.
        owner: name of the object that keeps state, or nothing when there is none.
        results: what may be returned.
        has_grad: leaves out what autograd refuses.
        calls: calls that may stand in expressions.
        depth: how deep statements may nest.
    """

    def __init__(
        self,
        rng: random.Random,
        names: Names,
        *,
        owner: str,
        results: tuple[str, ...],
        has_grad: bool,
        calls: tuple[str, ...] = (),
        depth: int = 3,
    ) -> None:
        self._rng = rng
        self._names = names
        self._owner = owner
        self._results = results
        self._has_grad = has_grad
        self._calls = calls
        self._depth = depth
        self._fresh = 0

    def lines(self, at_least: int) -> list[str]:
        """Statements and a return, so many lines or a few more."""
        lines: list[str] = []
        while len(lines) < at_least:
            lines += self._statement(0, is_loop=False)
        return [*lines, f"return {self._fill(self._results[0])}"]

    # ------------------------------------------------------------------ expressions

    def _pick(self, *tables: tuple[str, ...]) -> str:
        rows = [row for table in tables for row in table]
        if not self._owner:
            rows = [r for r in rows if "{o}" not in r and "COUNT" not in r and "xs" not in r]
            rows = [r for r in rows if r != "x" and "n" not in r.split()]
        return self._rng.choice(rows)

    def _one(self, names: list[str], default: str) -> str:
        return self._rng.choice(names) if names else default

    def _fill(self, template: str) -> str:
        names = self._names
        return template.format(
            a=self._rng.choice(names.tensors),
            b=self._rng.choice(names.tensors),
            c=self._rng.choice(["0", "0", "0.5", "-0.5", "3"]),
            f=self._one(names.floats, "0.5"),
            k=self._one(names.ints, "1"),
            s=self._one(names.sums, "0.25"),
            m=self._one(names.maybes, "None"),
            l=self._one(names.lists, "[]"),
            flag=self._one(names.flags, "True"),
            o=self._owner,
            test=self._test() if "{test}" in template else "",
        )

    def _test(self) -> str:
        table = DATA_TESTS if self._rng.random() < 0.6 else HOST_TESTS
        rows = [r for r in table if "{m}" not in r or self._names.maybes]
        return self._fill(self._pick(tuple(rows)))

    def _tensor(self) -> str:
        draw = self._rng.random()
        if draw < 0.15 and self._calls:
            return self._fill(self._pick(self._calls))
        if draw < 0.25:
            one, other = self._pick(TENSORS), self._pick(TENSORS)
            return f"{self._fill(one)} if {self._test()} else {self._fill(other)}"
        return self._fill(self._pick(TENSORS))

    # ------------------------------------------------------------------ statements

    def _statement(self, depth: int, *, is_loop: bool) -> list[str]:
        is_deep = depth >= self._depth
        kinds = {
            self._assign: 8,
            self._number: 4,
            self._swap: 2,
            self._list: 3,
            self._none: 3,
            self._state: 3 if self._owner else 0,
            self._in_place: 2,
            self._guarded: 2,
        }
        if not is_deep:
            draw = self._rng.random()
            if draw < 0.42:
                return self._compound(depth, is_loop=is_loop)
        kind = self._rng.choices(list(kinds), weights=list(kinds.values()))[0]
        return kind()

    def _bind(self, names: list[str], choices: str) -> str:
        """An old name or a new one of a kind; it holds that kind from here on."""
        name = self._rng.choice([*names, *choices.split()])
        for held in (getattr(self._names, f.name) for f in fields(Names)):
            if name in held:
                held.remove(name)
        names.append(name)
        return name

    def _assign(self) -> list[str]:
        value = self._tensor()
        return [f"{self._bind(self._names.tensors, 'a b c')} = {value}"]

    def _number(self) -> list[str]:
        names = self._names
        table, held, choices = self._rng.choice(
            [
                (INTS, names.ints, "k j"),
                (FLOATS, names.floats, "f"),
                (SUMS, names.sums, "s"),
                (("{test}", "not {flag}", "{flag} and bool({test})"), names.flags, "flag"),
            ]
        )
        value = self._fill(self._pick(table))
        return [f"{self._bind(held, choices)} = {value}"]

    def _swap(self) -> list[str]:
        names = self._names
        if len(names.tensors) < 2 or not names.ints:
            return self._assign()
        rows = [r for r in SWAPS if self._owner or "pair" not in r]
        return [self._fill(self._pick(tuple(rows)))]

    def _list(self) -> list[str]:
        names = self._names
        if not names.lists:
            return [f"{self._bind(names.lists, 'out')} = []"]
        return [self._fill(self._pick(LISTS))]

    def _none(self) -> list[str]:
        names = self._names
        value = self._rng.choice(
            ["None", self._tensor(), f"{self._fill('{a}')} if {self._test()} else None"]
        )
        if names.maybes and self._rng.random() < 0.4:
            held = self._rng.choice(names.maybes)
            return [
                f"{held} = {self._fill('{a}')} if {held} is None else {held} + {self._fill('{a}')}"
            ]
        return [f"{self._bind(names.maybes, 'm')} = {value}"]

    def _state(self) -> list[str]:
        return [self._fill(self._pick(STATE))]

    def _in_place(self) -> list[str]:
        rare = () if self._has_grad else IN_PLACE_ANYWHERE
        text = self._pick(IN_PLACE, rare)
        names = self._names
        name = self._rng.choice(names.tensors)
        return self._fill(text.replace("{a}", name)).split("; ")

    def _guarded(self) -> list[str]:
        names = self._names
        rows = [r for r in GUARDED if self._owner or "{o}" not in r[0]]
        rows = [r for r in rows if names.lists or "{l}" not in r[0]]
        rows = [r for r in rows if names.maybes or "{m}" not in r[0]]
        if not rows:
            return self._assign()
        test, body = self._rng.choice(rows)
        held, listed = self._one(names.maybes, ""), self._one(names.lists, "")
        lines = (test, "    " + body)
        return [self._fill(r.replace("{m}", held).replace("{l}", listed)) for r in lines]

    # ------------------------------------------------------------------ compound statements

    def _compound(self, depth: int, *, is_loop: bool) -> list[str]:
        draw = self._rng.random()
        if draw < 0.42:
            return self._branch(depth, is_loop=is_loop)
        if draw < 0.62:
            return self._while(depth)
        if draw < 0.80:
            return self._for(depth)
        if draw < 0.92:
            return self._leave(depth, is_loop=is_loop)
        return self._rare(depth, is_loop=is_loop)

    def _block(self, depth: int, *, is_loop: bool) -> list[str]:
        lines: list[str] = []
        for _ in range(self._rng.randint(1, 3 if depth < 2 else 2)):
            lines += self._statement(depth + 1, is_loop=is_loop)
        return ["    " + line for line in lines]

    def _arm(self, depth: int, *, is_loop: bool) -> tuple[list[str], Names]:
        """A block that leaves the names as they were, and what is bound at its end."""
        outside = self._names
        self._names = outside.copy()
        lines = self._block(depth, is_loop=is_loop)
        inside, self._names = self._names, outside
        return lines, inside

    def _join(self, *arms: Names) -> None:
        """Keep what is bound, to the same kind, after every arm; rarely what may be unbound."""
        keeps_all = self._rng.random() < 0.02
        for f in fields(Names):
            held = [getattr(arm, f.name) for arm in arms]
            kept = [n for n in held[0] if keeps_all or all(n in other for other in held[1:])]
            setattr(self._names, f.name, kept)
        if not self._names.tensors:
            self._names.tensors = ["x"] if self._owner else ["a0"]

    def _branch(self, depth: int, *, is_loop: bool) -> list[str]:
        before = self._names.copy()
        lines = [f"if {self._test()}:"]
        body, first = self._arm(depth, is_loop=is_loop)
        lines, arms = lines + body, [first]
        for _ in range(self._rng.choice([0, 0, 0, 1, 2])):
            lines.append(f"elif {self._test()}:")
            body, names = self._arm(depth, is_loop=is_loop)
            lines, arms = lines + body, [*arms, names]
        if self._rng.random() < 0.55:
            lines.append("else:")
            body, names = self._arm(depth, is_loop=is_loop)
            lines, arms = lines + body, [*arms, names]
        else:
            arms.append(before)
        self._join(*arms)
        return lines

    def _loop(self, depth: int, head: str, first: list[str]) -> list[str]:
        """The head, its body and perhaps an `else`; `first` are the body's first lines."""
        before = self._names.copy()
        body, names = self._arm(depth, is_loop=True)
        lines = [head, *("    " + line for line in first), *body]
        self._join(before, names)
        if self._rng.random() < 0.15:
            lines.append("else:")
            body, names = self._arm(depth, is_loop=False)
            lines += body
            self._join(self._names.copy(), names)
        return lines

    def _while(self, depth: int) -> list[str]:
        self._fresh += 1
        trip, limit = f"trip{self._fresh}", self._rng.randint(2, 5)
        start, first = f"{trip} = 0", [f"{trip} += 1"]
        self._names.ints.append(trip)
        form = self._rng.randrange(4)
        if form == 0:
            head = f"while {trip} < {limit}:"
            first += [f"if {self._test()}:", "    break"]
        elif form == 1:
            head = "while True:"
            first += [f"if {trip} > {limit}:", "    break"]
        elif form == 2:
            head = f"while {trip} < {limit} and ({self._test()}):"
        else:
            head = f"while ({self._test()}) and {trip} < {limit}:"
        if self._rng.random() < 0.7:
            name = self._rng.choice(self._names.tensors)
            first.append(f"{name} = {name} * 0.5 - {self._rng.choice(['0.1', '0.3', name])}")
        # The counter bounds the loop: no statement of the program may bind it.
        self._names.ints.remove(trip)
        return [start, *self._loop(depth, head, first)]

    def _for(self, depth: int) -> list[str]:
        self._fresh += 1
        held = self._names.copy()
        number = self._fresh
        draw = self._rng.random()
        if draw < 0.4:
            head, kind, name = f"range({self._fill(self._pick(RANGES))})", "ints", f"i{number}"
        elif draw < 0.85 or not self._owner:
            head, kind, name = self._fill(self._pick(ITERABLES)), "tensors", f"row{number}"
        else:
            head, kind, name = f"{self._owner}.layers", "", f"layer{number}"
        target = name
        if kind == "tensors" and self._rng.random() < 0.25:
            head, target = f"enumerate({head})", f"i{number}, {name}"
        first = []
        if kind:
            getattr(self._names, kind).append(name)
        else:
            into = self._rng.choice(self._names.tensors)
            first = [f"{into} = torch.tanh({name}({into}))"]
        lines = self._loop(depth, f"for {target} in {head}:", first)
        # A loop without a trip binds nothing.
        if kind and name in getattr(self._names, kind):
            getattr(self._names, kind).remove(name)
        if not self._names.tensors:
            self._names = held
        return lines

    def _leave(self, depth: int, *, is_loop: bool) -> list[str]:
        """A test, perhaps a statement, then out of the loop or of the function."""
        leaving = f"return {self._fill(self._results[0])}"
        if self._rng.random() < 0.25:
            leaving = f"return {self._fill(self._pick(self._results))}"
        if is_loop and self._rng.random() < 0.7:
            leaving = self._rng.choice(["break", "continue"])
        lines = [f"if {self._test()}:"]
        if self._rng.random() < 0.4:
            body, _ = self._arm(depth + self._depth, is_loop=False)
            lines += body
        return [*lines, f"    {leaving}"]

    def _rare(self, depth: int, *, is_loop: bool) -> list[str]:
        draw = self._rng.randrange(6)
        test = self._test()
        before = self._names.copy()
        body, names = self._arm(depth, is_loop=is_loop)
        match draw:
            case 0:
                other, others = self._arm(depth, is_loop=is_loop)
                subject = self._fill("{k}")
                self._join(before, names, others)
                inside = ["    case 0:", *_indent(body), "    case 1 | 2:", *_indent(other)]
                return [f"match {subject} % 4:", *inside]
            case 1:
                failing = ["try:", f"    if {test}:", '        raise ValueError("refused")']
                self._join(before, names)
                return [
                    *failing,
                    *self._arm(depth, is_loop=is_loop)[0],
                    "except ValueError:",
                    *body,
                ]
            case 2:
                self._join(before, names)
                return ["with torch.no_grad():", *body]
            case 3:
                value = self._fill("v * {f} + {a}")
                name = self._rng.choice(self._names.tensors)
                return ["def local(v):", f"    return {value}", f"{name} = local({name})"]
            case 4:
                return [
                    f"if {test} and {self._fill('{a}')}.sum() > 4:",
                    '    raise ValueError("too large")',
                ]
            case _:
                self._join(before, names)
                return [f"if (s := {self._fill('{a}')}.sum()) > {self._fill('{c}')}:", *body]


def _indent(lines: list[str]) -> list[str]:
    return ["    " + line for line in lines]


def make(seed: int, *, is_large: bool = False) -> RegionProgram:
    """Return the program of a seed."""
    rng = random.Random(f"{seed} {is_large}")
    has_grad = rng.random() < 0.35
    is_module = rng.random() < 0.35

    def inner(names: Names, results: tuple[str, ...], depth: int) -> str:
        body = Body(rng, names, owner="", results=results, has_grad=has_grad, depth=depth)
        return _text(["a0 = a", *body.lines(rng.randint(1, 4))])

    def outer(owner: str) -> str:
        size = rng.randint(40, 80) if is_large else rng.randint(5, 11)
        calls = (*CALLS, *CALLS_OF_METHODS)
        results = (rng.choice(RETURNS), *RETURNS)
        body = Body(rng, _start(), owner=owner, results=results, has_grad=has_grad, calls=calls)
        start = ["global COUNT", "a, b, k, f, m, out = x, x * 0.5, n, 0.5, None, []"]
        return _text([*start, *body.lines(size)])

    unused = _text(["return x"])
    text = FRAME.format(
        pick=_indented(inner(Names(tensors=["a"], ints=["k"]), ("{a}",), 1)),
        helper=inner(Names(tensors=["a", "b"]), ("{a}",), 1),
        pair=inner(Names(tensors=["a"], ints=["k"]), ("{a}, {k}",), 1),
        walk_test=rng.choice(["a.sum() > 2", "a[0] < -0.5", "False"]),
        walk_step=rng.choice(["a * 0.5", "torch.tanh(a) - 0.25"]),
        walk_rest=rng.choice(["a", "k", "0.5"]),
        forward=_indented(outer("self") if is_module else unused),
        step=unused if is_module else outer("o"),
    )
    rows = rng.choice([(3, 3), (3, 3), (1, 4), (2, 3)])
    trips = rng.choice([(0, 4), (0, 4), (2, 2), (1, 2)])
    return RegionProgram(
        seed=seed,
        is_large=is_large,
        text=text,
        is_module=is_module,
        has_grad=has_grad,
        rows=rows,
        trips=trips,
    )


def _start() -> Names:
    return Names(
        tensors=["a", "b", "x"], maybes=["m"], ints=["k", "n"], floats=["f"], lists=["out"]
    )


def _text(lines: list[str]) -> str:
    return "\n".join("    " + line for line in lines)


def _indented(text: str) -> str:
    return "\n".join("    " + line for line in text.splitlines())
