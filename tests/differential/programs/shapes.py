"""Tensors of another size in every call: few recordings, or a decision on sizes that says why more."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, no-check-untyped-defs

from __future__ import annotations

import functools
import logging
import math
import random

import torch
import torch.nn.functional as F
from tests.differential.kit import World, program
from torch import nn

LOG = logging.getLogger("shapes")
TABLE = {4: 1.0, 7: 2.0}
SHAPE = torch.Size([4, 6])


class State:
    """What outlives a call."""

    def __init__(self):
        self.n = 0
        self.shape = None
        self.log = []
        self.table = {}
        self.cache = torch.ones(2, 3, 6)
        self.buffer = torch.zeros(40, 6)


def size_of(step, most=32):
    """The same size for both worlds; 1 is among them."""
    return random.Random(step * 7 + 3).randint(1, most)


def rows(step, width=6, most=32):
    """One `f32[n, 6]`."""
    generator = torch.Generator().manual_seed(step)
    return (torch.randn(size_of(step, most), width, generator=generator),)


def given(hits=21, inputs=rows, backward=False):
    """Register `function(state, *tensors)`; 21 hits of 24 calls are three recordings."""

    def register(function):
        def build():
            state = State()
            call = functools.partial(function, state)
            return World(
                call=lambda *tensors: call(*tensors),
                inputs=inputs,
                state={"state": state},
                backward=backward,
            )

        build.__name__ = function.__name__
        return program(hits=hits)(build)

    return register


def modules(hits=21, inputs=rows, backward=False, training=False):
    """Register a function that makes a module."""

    def register(make):
        def build():
            module = make().train(training)
            return World(call=module, inputs=inputs, backward=backward)

        build.__name__ = make.__name__
        return program(hits=hits)(build)

    return register


def tokens(step):
    """One `i64[2, n]`."""
    generator = torch.Generator().manual_seed(step)
    return (torch.randint(0, 20, (2, size_of(step) + 4), generator=generator),)


def sequences(step):
    """One `f32[2, n, 8]`."""
    generator = torch.Generator().manual_seed(step)
    return (torch.randn(2, size_of(step) + 1, 8, generator=generator),)


def images(step):
    """One `f32[n, 3, h, w]`, all three vary."""
    draw = random.Random(step)
    height, width = draw.randint(5, 9), draw.randint(5, 9)
    generator = torch.Generator().manual_seed(step)
    return (torch.randn(draw.randint(2, 5), 3, height, width, generator=generator),)


# --------------------------------------------------------------------------- how sizes are asked


@given()
def nobody_asks(state, x):
    return torch.relu(x * 2).sum(1)


@given()
def all_ways_to_ask(state, x):
    h = x * 2
    sizes = (h.shape[0], h.size(0), len(h), h.numel(), h.nelement(), h.size(dim=0), h.nbytes)
    return sizes, x.shape, h.size(), h.shape[-1], h.ndim, h.dim(), torch.numel(h), x.stride()


@given()
def sizes_are_plain_numbers_afterwards(state, x):
    h = x + 1
    state.n = h.shape[0]
    state.shape = h.shape
    state.log.append([h.size(0), (h.shape, "text")])
    state.table["n"] = {"size": h.shape[:1]}
    return [h.shape, {"n": x.shape[0]}, type(h.shape[0]) is int, type(h.shape) is torch.Size]


@given()
def mean_by_hand(state, x):
    return x.sum(0) / x.shape[0], 1 / x.size(0), x.size(0) ** 2, -x.size(0)


@given()
def arithmetic(state, x):
    n = (x * 1).shape[0]
    half = n // 2
    return x.new_zeros(half + 1), n % 4, math.sqrt(x.shape[0]), x[: half + 1], min(n, 40), n >= 0


@given(hits=17)
def divmod_fixes_a_size(state, x):
    return divmod(x.shape[0] // 8, 3), x.sum()


@given()
def folds(state, x):
    h = x.unsqueeze(1).expand(-1, 2, -1)
    return math.prod(h.shape), sum(h.shape), max(x.shape[0], 40), h.shape.numel(), min(h.shape[1:])


@given()
def unpacked(state, x):
    n, width = (x @ x.t() @ x).shape
    (first, *rest) = x.shape
    return x.view(width, n), rest, first


@given()
def handed_on_in_sequences(state, x):
    shape = list((x * 2).shape)
    shape[1] = shape[1] * 2
    pairs = [(a, b) for a, b in zip(x.shape, (1, 2), strict=True)]
    again = (*x.shape[:-1], 3, -1)
    return (
        torch.zeros(shape),
        pairs,
        x.view(again),
        x.reshape(x.shape[:1] + (2, 3)),
        tuple(x.size()),
    )


@given()
def sizes_of_new_tensors(state, x):
    n = x.size(0)
    h = torch.arange(n).float() + torch.ones(n) * torch.full((n,), 2.0) + torch.zeros(x.shape[:1])
    return h, x.new_ones(n, 2), torch.eye(n), torch.linspace(0, 1, n), torch.empty(n, 0)


@given()
def views(state, x):
    n = x.size(0)
    h = (x * 2).view(n, 2, -1).transpose(0, 1)
    return (
        h.reshape(2, -1),
        h.contiguous().view(-1),
        h.flatten(1),
        x.view(-1, 3),
        h.permute(2, 1, 0),
    )


@given()
def views_without_gradients(state, x):
    with torch.no_grad():
        h = (x * 2).view(x.shape[0], 2, 3).transpose(0, 1).unsqueeze(0)
        return h, h.transpose(1, 2).reshape(x.shape[0], -1), x.view(-1, 2).t().unsqueeze(1)


@given()
def broadcast_and_expand(state, x):
    n = x.shape[0]
    return x[:, None].expand(n, n, 6) * x[None], x.repeat(2, 1), x[:1].expand_as(x).sum(0)


@given()
def slices(state, x):
    n = x.shape[0]
    h = x + 1
    return h[: n // 2], h[-1], h[n - 1], h[:, n % 6], h[h.shape[0] // 2 :], h[-n:, -2]


@given()
def joined_and_padded(state, x):
    h = torch.cat([x, x.new_zeros(len(x), 2)], -1)
    return F.pad(h, (0, 1, 0, 3)), torch.stack([x, x]), h.shape


@given()
def masks(state, x):
    n = x.size(0)
    mask = torch.triu(torch.ones(n, n, dtype=torch.bool), diagonal=1)
    return (x @ x.t()).masked_fill(mask, -1.0).softmax(-1), torch.tril(torch.ones(n, n))


@given()
def data_decides_a_size(state, x):
    kept = x[x[:, 0] > 0]
    return kept * 2, kept.shape[0] * 2, (x > 0).nonzero().shape


@given()
def random_draws(state, x):
    noise = torch.randn(x.shape) + torch.rand(len(x), 6)
    return F.dropout(x + noise, 0.5), torch.randperm(x.size(0))


@given()
def topk_and_sort(state, x):
    k = x.size(0) // 2 + 1
    return x.topk(k, dim=0), x.sort(0), x.max(0), torch.var_mean(x, 0)


@given(hits=20, inputs=lambda step: (*rows(step), *rows(step + 100)))
def two_sizes(state, x, y):
    return x @ y.t(), torch.cat([x, y]), x.shape[0] * y.shape[0]


@given(inputs=lambda step: (*rows(step), *rows(step)), hits=21)
def equal_sizes(state, x, y):
    assert x.shape == y.shape
    return x + y if x.shape[0] == y.shape[0] else x


@given(inputs=lambda step: (torch.randn(size_of(step) + 1, size_of(step) + 1),), hits=22)
def square(state, x):
    h = x * 2
    h.t_()
    return h.shape, h @ x, x.T.contiguous(), torch.diagonal(h).shape


# ------------------------------------------------------------------------------------- decisions


@given(hits=20)
def branch_on_a_size(state, x):
    if x.shape[0] > 4:
        return x * 2
    return x + 1


@given(hits=20)
def branch_on_the_size_of_a_result(state, x):
    h = x[::2] * 2
    return h.sum(0) if h.shape[0] > 4 else h


@given(hits=10)
def parity(state, x):
    assert x.shape[0] % 2 == 0, f"odd: {x.shape[0]}"
    return x.reshape(2, -1)


@given(hits=15)
def raises_by_size(state, x):
    if len(x) > 20:
        raise ValueError("too long")
    return x * 2


@given()
def caught_by_size(state, x):
    try:
        return x.view(2, -1, 3)
    except RuntimeError:
        return x


@given()
def reshape_that_may_fail(state, x):
    return (x.repeat(2, 1) * 2).reshape(2, -1)


@given(hits=1)
def loop_over_a_range(state, x):
    total = x.new_zeros(6)
    for i in range(x.shape[0]):
        total = total + x[i] * i
    return total


@given(hits=1)
def loop_over_rows(state, x):
    return [row * 2 for row in x]


@given(hits=0)
def unpacks_rows(state, x):
    first, *others = x * 2
    return first, len(others)


@given(hits=18)
def in_chunks(state, x):
    return [part.sum() for part in x.split(8)], len(x.chunk(3))


@given(hits=20)
def rank_by_size(state, x):
    h = x[: x.shape[0] // 8].squeeze()
    return h, h.dim()


@given(hits=20)
def compares_shapes(state, x):
    h = x * 1
    return h.shape == (4, 6), x.shape != SHAPE, (h.shape[0], 6) == (7, 6), h.shape == x.shape


@given(hits=1)
def orders_shapes(state, x):
    return x.shape < (16, 6), sorted(x.shape), x.shape.index(6), list(x.shape).index(6)


@given(hits=1)
def contained(state, x):
    return x.shape[0] in (4, 7), x.shape[0] in [4, 7], 6 in x.shape, 6 in list(x.shape)


@given(hits=1)
def keys_of_dicts(state, x):
    state.table[x.shape] = x.shape[0]
    return TABLE.get(x.shape[0]), {x.shape[0]: x}, {x.shape}, {(x * 1).shape[0]}


@given(hits=1)
def text_that_is_kept(state, x):
    return f"{x.shape[0]}", str(x.shape), "%d" % len(x), f"{x.shape}", repr(x.size(0))


@given()
def printed_text(state, x):
    print(f"{x.shape[0]} rows", x.shape, (x * 2).shape, len(x))
    LOG.warning("rows: %s of %d", x.shape, x.size(0))
    return x


@given(hits=1)
def repeated_sequences(state, x):
    return [0] * x.shape[0], "x" * len(x), list(range(len(x)))


@given()
def truth_of_sizes(state, x):
    n = x.shape[0]
    return (n or 5), (x if n else 0), bool(n), not n, isinstance(n, int), isinstance(x.shape, tuple)


@given(hits=19)
def chained_comparison(state, x):
    return 3 < x.shape[0] <= 20


# ----------------------------------------------------------------------------- how tensors lie


@given(inputs=lambda step: (rows(step)[0].t(),))
def transposed_input(state, x):
    return x * 2, x.contiguous(), x.is_contiguous(), x.reshape(-1)


@given(inputs=lambda step: (rows(step, 12)[0][:, ::2],))
def strided_input(state, x):
    return x * 2, x.contiguous(), x.reshape(-1), x.is_contiguous(), x.stride()


@given(inputs=lambda step: (torch.randn(40, 6, generator=torch.Generator())[: size_of(step)],))
def part_of_a_larger_tensor(state, x):
    return x.reshape(-1) * 2, x.storage_offset(), x.is_contiguous()


@given(inputs=lambda step: (rows(step)[0][:, :1].expand(-1, 6),))
def expanded_input(state, x):
    return x.contiguous(), x * 2, x.stride()


@given(hits=20, inputs=lambda step: (rows(step, 12)[0][:, : 6 if step % 2 else 12],))
def sometimes_with_gaps(state, x):
    return x.reshape(-1), x.is_contiguous(), x.stride(), x * 2


@given(hits=20)
def contiguous_or_not(state, x):
    h = x[: x.shape[0] // 4 + 1].t()
    same = h.contiguous()
    same.mul_(2)
    return h, same, x


@given()
def reshaped_and_changed(state, x):
    h = x[: x.shape[0] // 4 + 1].t().reshape(-1)
    h.add_(1)
    return x, h, h.sum() if x.shape[0] > 0 else x


@given(hits=15, inputs=lambda step: (torch.randn((8, 9, 12, 2, 3, 2, 3)[step % 7], 6),))
def a_view_for_small_sizes_changed_before_a_decision(state, x):
    h = x[: x.shape[0] // 4 + 1].t().reshape(-1)
    h.add_(1)
    if x[-1].sum() > 0:
        return x * 2
    return h


@given(hits=15, inputs=lambda step: (torch.randn((4, 5, 6, 7, 16, 20)[min(step, 5)], 6),))
def nothing_drawn_for_small_sizes_before_a_decision(state, x):
    noise = torch.rand(x.shape[0] // 8)
    return noise, (x if x.sum() > 0 else x * 2)


@given(hits=20, inputs=lambda step: (torch.randn(size_of(step) + 1, size_of(step + 50) + 1),))
def transposed_in_place_and_back(state, x):
    x.t_()
    shape, rows = x.shape, x[: x.shape[0] // 2]
    x.t_()
    return shape, rows, x.shape


@given(hits=0)
def transposed_in_place_before_a_decision(state, x):
    x.t_()
    h = x * 2 if x.sum() > 0 else x * 3
    x.t_()
    return h


@given()
def written_into_a_buffer(state, x):
    state.buffer[: x.shape[0]] = x
    state.buffer[-1] += x.shape[0]
    return state.buffer[: x.size(0)].sum()


@given()
def changed_in_place(state, x):
    x.mul_(2)
    h = (x * 2).unsqueeze_(0).squeeze_(0)
    return x.shape, x.add_(1), h


@given(hits=22, inputs=lambda step: (torch.randn(2, 1, 6),))
def growing_cache(state, x):
    state.cache = torch.cat([state.cache, x], 1)
    return state.cache.sum(1), state.cache.shape[1]


@given(inputs=lambda step: (torch.randn(2, 1, 6),))
def growing_list(state, x):
    state.table["k"] = torch.cat([state.table.get("k", state.cache), x], -2)
    state.n = state.table["k"].shape[-2]
    scores = x @ state.table["k"].transpose(-1, -2) / math.sqrt(x.size(-1))
    return scores.softmax(-1) @ state.table["k"], torch.arange(state.n)


@given(
    hits=20,
    inputs=lambda step: ([torch.randn(size_of(step), 2), torch.randn(size_of(step + 1), 2)],),
)
def sizes_in_a_list(state, tensors):
    return torch.cat(tensors), [len(t) for t in tensors]


@given(inputs=lambda step: (torch.randn(size_of(step), 6, requires_grad=True),), backward=True)
def gradients(state, x):
    h = x.view(x.size(0), 2, 3).transpose(1, 2).reshape(-1, 6)
    return (h.sin() * x).sum(1) / h.shape[0], h[: h.shape[0] // 2 + 1].contiguous()


class Doubled(torch.autograd.Function):
    """Decides on a size for itself, in each run."""

    @staticmethod
    def forward(context, x):
        context.n = x.shape[0]
        return x * 2 if x.shape[0] > 5 else x * 3

    @staticmethod
    def backward(context, grad):
        return grad * context.n


@given(
    hits=20, inputs=lambda step: (torch.randn(size_of(step), 6, requires_grad=True),), backward=True
)
def own_autograd_function(state, x):
    return Doubled.apply(x)


@given()
def out_argument(state, x):
    out = torch.empty(0)
    torch.add(x, 1, out=out)
    return out.shape, out


@given()
def several_results(state, x):
    first, second = (x * 2).split([x.shape[0] // 2, x.shape[0] - x.shape[0] // 2])
    values, indices = x.max(1)
    return first, second, values, torch.meshgrid(x[:, 0], x[:, 1], indexing="ij"), x.unbind(1)


@given()
def nested_functions(state, x):
    def halves(h, depth):
        return h if depth == 0 else halves(h[: (h.shape[0] + 1) // 2], depth - 1)

    pick = lambda h, n=x.shape[0]: h[: n // 2 + 1]
    return halves(x, 2), pick(x), sum(s for s in x.shape)


# --------------------------------------------------------------------------------------- modules


@modules(inputs=sequences)
def attention():
    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv, self.out = nn.Linear(8, 24), nn.Linear(8, 8)

        def forward(self, x):
            b, n, c = x.shape
            qkv = self.qkv(x).reshape(b, n, 3, 2, c // 2).permute(2, 0, 3, 1, 4)
            q, k, v = qkv.unbind(0)
            h = F.scaled_dot_product_attention(q, k, v, is_causal=n > 1)
            return self.out(h.transpose(1, 2).reshape(b, n, c))

    return Attention()


@modules(inputs=sequences)
def encoder_layer():
    return nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)


@modules(inputs=sequences, training=True, backward=True)
def encoder_layer_in_training():
    return nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.1)


@modules(inputs=sequences)
def recurrent():
    return nn.GRU(8, 4, batch_first=True)


@modules(inputs=tokens, hits=22)
def embedded_positions():
    class Embedded(nn.Module):
        def __init__(self):
            super().__init__()
            self.token, self.position = nn.Embedding(20, 8), nn.Embedding(64, 8)

        def forward(self, ids):
            position = torch.arange(ids.size(1), device=ids.device).unsqueeze(0)
            return self.token(ids) + self.position(position)

    return Embedded()


@modules(inputs=images, training=True, backward=True)
def convolutions():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.AdaptiveAvgPool2d((2, None)),
        nn.Flatten(2),
        nn.Dropout(0.2),
    )


@modules(inputs=lambda step: (images(step)[0].contiguous(memory_format=torch.channels_last),))
def channels_last():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Upsample(scale_factor=2)
    )


@modules(inputs=lambda step: (torch.randn(size_of(step) + 1, 6),), training=True, backward=True)
def normalised_batches():
    return nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.LayerNorm(5), nn.GELU())


@modules()
def losses():
    class Loss(nn.Module):
        def forward(self, x):
            target = torch.arange(x.size(0)) % 6
            onehot = F.one_hot(target, 6).float()
            return (
                F.cross_entropy(x, target),
                F.mse_loss(x, onehot),
                F.normalize(x),
                F.softmax(x, -1),
            )

    return Loss()


@modules(inputs=sequences)
def counts_what_it_saw():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.seen = 0
            self.register_buffer("total", torch.zeros(8))

        def forward(self, x):
            self.seen += x.shape[1]
            self.total += x.sum((0, 1))
            return self.total / self.seen

    return Counting()


@modules(inputs=images)
def resized():
    class Resized(nn.Module):
        def forward(self, x):
            h = F.interpolate(x, size=(x.shape[2] * 2, x.shape[3]), mode="nearest")
            h = F.interpolate(h, scale_factor=0.5, mode="bilinear", align_corners=False)
            return F.pad(h, (1, 1, 1, 1), mode="reflect"), F.unfold(h, 2), h.shape[-2:]

    return Resized()
