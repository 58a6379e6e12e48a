"""Train steps: forward, backward, optimiser and scheduler in one speculated function."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, no-check-untyped-defs

from __future__ import annotations

import random
import types

import torch
import torch.nn.functional as F
from tests.differential.kit import World, program
from torch import nn

CALLS = 12


def batch(step):
    """`f32[8, 3]` and `i64[8]`."""
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(8, 3, generator=generator)
    return x, torch.randint(0, 2, (8,), generator=generator)


def network():
    return nn.Sequential(
        nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.2), nn.Linear(4, 2)
    )


def trained(call, make, model=None, **more):
    """A world that calls `call(model, opt, x, y)`."""
    model = model or network()
    opt = make(model.parameters())
    state = {"model": model, "opt": opt, **more}
    return World(call=call, inputs=lambda step: (model, opt, *batch(step)), state=state)


def train(model, opt, x, y):
    opt.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    opt.step()
    return loss


def sgd(parameters):
    return torch.optim.SGD(parameters, 0.1, momentum=0.9)


# --------------------------------------------------------------------------------- optimisers


@program(hits=9)
def step_of_sgd():
    return trained(train, sgd)


@program(hits=9)
def step_of_sgd_with_foreach():
    return trained(train, lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, foreach=True))


@program(hits=9)
def step_of_adam():
    return trained(train, lambda p: torch.optim.Adam(p, 0.01))


@program(hits=9)
def step_of_adamw_with_foreach():
    return trained(train, lambda p: torch.optim.AdamW(p, 0.01, foreach=True, amsgrad=True))


@program(hits=9)
def step_of_fused_adamw():
    return trained(train, lambda p: torch.optim.AdamW(p, 0.01, fused=True))


@program(hits=9)
def step_of_rmsprop():
    return trained(train, lambda p: torch.optim.RMSprop(p, 0.01, momentum=0.5, centered=True))


@program(hits=9)
def step_with_a_learning_rate_in_a_tensor():
    return trained(train, lambda p: torch.optim.Adam(p, torch.tensor(0.01)))


@program(hits=9)
def loss_returned_as_a_number():
    def call(model, opt, x, y):
        opt.zero_grad(set_to_none=False)
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        opt.step()
        return loss.item()

    return trained(call, sgd)


@program(hits=9)
def clipped_and_counted():
    log = types.SimpleNamespace(steps=0, norms=[], losses=[])

    def call(model, opt, x, y):
        log.steps += 1
        loss = F.cross_entropy(model(x), y)
        opt.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), max_norm=0.5, foreach=True)
        nn.utils.clip_grad_value_(model[0].weight, 0.1)
        opt.step()
        log.norms.append(norm)
        log.losses.append(loss.item())
        print(f"step {log.steps}: {loss.item():.4f} {norm:.3f}")
        return loss.detach()

    return trained(call, lambda p: torch.optim.Adam(p, 0.01), log=log)


@program(hits=9)
def gradients_accumulated_over_micro_batches():
    def call(model, opt, x, y):
        model.zero_grad()
        total = 0
        for part, target in zip(x.chunk(2), y.chunk(2)):
            loss = F.cross_entropy(model(part), target) / 2
            loss.backward()
            total = total + loss.detach()
        opt.step()
        return total

    return trained(call, sgd)


@program(hits=9)
def gradients_accumulated_over_calls():
    state = types.SimpleNamespace(micro=0)

    def call(model, opt, x, y):
        F.cross_entropy(model(x), y).backward()

    def between(step):
        if step % 3 == 2:
            world.state["opt"].step()
            world.state["opt"].zero_grad()

    world = trained(call, sgd, counter=state)
    world.between = between
    return world


@program(hits=8)
def two_optimisers_and_two_losses():
    body, head = nn.Linear(3, 4), nn.Linear(4, 2)
    first, second = sgd(body.parameters()), torch.optim.Adam(head.parameters(), 0.01)

    def call(x, y):
        first.zero_grad()
        loss = F.cross_entropy(head(body(x).relu()), y)
        loss.backward(retain_graph=True)
        first.step()
        second.zero_grad(set_to_none=True)
        other = head(body(x).detach()).square().mean()
        other.backward()
        second.step()
        return loss, other

    state = {"body": body, "head": head, "first": first, "second": second}
    return World(call=call, inputs=batch, state=state)


@program(hits=9)
def trainer_with_everything_on_itself():
    class Trainer:
        def __init__(self):
            self.model, self.steps = network(), 0
            self.opt = torch.optim.AdamW(self.model.parameters(), 0.01, weight_decay=0.1)
            self.best = None

        def __call__(self, x, y):
            self.steps += 1
            self.model.train()
            loss = F.cross_entropy(self.model(x), y)
            self.opt.zero_grad()
            loss.backward()
            self.opt.step()
            self.best = loss.detach()
            return {"loss": loss, "steps": self.steps}

    trainer = Trainer()
    return World(call=trainer, inputs=batch, state={"trainer": trainer})


@program(hits=9)
def gradients_asked_for():
    def call(model, opt, x, y):
        loss = F.cross_entropy(model(x), y)
        weight, bias = torch.autograd.grad(loss, [model[4].weight, model[4].bias])
        with torch.no_grad():
            model[4].weight -= 0.1 * weight
            model[4].bias.sub_(bias, alpha=0.1)
        return weight, loss

    return trained(call, sgd)


@program(hits=9)
def mixed_precision():
    def call(model, opt, x, y):
        opt.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = F.cross_entropy(model(x), y)
        loss.backward()
        opt.step()
        return loss

    return trained(call, sgd)


@program(hits=8)
def scaled_gradients():
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=3)

    def call(model, opt, x, y):
        opt.zero_grad()
        loss = F.cross_entropy(model(x), y)
        scaler.scale(loss).backward()
        scaler.unscale_(opt)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(opt)
        scaler.update()
        return loss

    return trained(call, sgd, scaler=scaler)


# --------------------------------------------------------------------------------- schedulers


def scheduled(make, hits_metric=False):
    def call(model, opt, x, y):
        loss = train(model, opt, x, y)
        scheduler.step(loss.detach()) if hits_metric else scheduler.step()
        return loss

    world = trained(call, sgd)
    scheduler = make(world.state["opt"])
    world.state["scheduler"] = scheduler
    return world


@program(hits=9)
def learning_rate_by_steps():
    return scheduled(lambda opt: torch.optim.lr_scheduler.StepLR(opt, 3, 0.5))


@program(hits=9)
def learning_rate_by_a_cosine():
    return scheduled(lambda opt: torch.optim.lr_scheduler.CosineAnnealingLR(opt, 10))


@program(hits=9)
def learning_rate_of_one_cycle():
    return scheduled(lambda opt: torch.optim.lr_scheduler.OneCycleLR(opt, 0.5, total_steps=60))


@program(hits=9)
def learning_rates_in_sequence():
    schedulers = torch.optim.lr_scheduler

    def make(opt):
        parts = [schedulers.LinearLR(opt, 0.5, total_iters=4), schedulers.ExponentialLR(opt, 0.9)]
        return schedulers.SequentialLR(opt, parts, [4])

    return scheduled(make)


@program(hits=9)
def learning_rate_on_a_plateau():
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau
    return scheduled(lambda opt: plateau(opt, patience=1), hits_metric=True)


@program(hits=6)
def learning_rate_set_by_hand():
    def call(model, opt, x, y, rate):
        for group in opt.param_groups:
            group["lr"] = rate
        loss = train(model, opt, x, y)
        return loss, opt.param_groups[0]["lr"]

    world = trained(call, sgd)
    inputs = world.inputs
    world.inputs = lambda step: (*inputs(step), 0.1 / (1 + step))
    return world


@program(hits=6)
def learning_rate_logged_before_the_step():
    log = []

    def call(model, opt, x, y):
        log.append(opt.param_groups[0]["lr"])
        return train(model, opt, x, y)

    def between(step):
        world.state["opt"].param_groups[0]["lr"] = 0.1 / (1 + step)

    world = trained(call, sgd, log=log)
    world.between = between
    return world


# ------------------------------------------------------------------------ changes from outside


@program(hits=6)
def optimiser_and_layers_exchanged():
    world = trained(train, sgd)
    model = world.state["model"]

    def between(step):
        opt = world.state["opt"]
        if step == 4:
            opt.param_groups[0]["momentum"] = 0.5
        if step == 6:
            opt.load_state_dict(opt.state_dict())
        if step == 8:
            model[0].weight.requires_grad_(False)
        if step == 10:
            opt.param_groups[0]["lr"] = 0.0

    world.between = between
    return world


@program(hits=4)
def another_optimiser_each_time():
    model = network()
    optimisers = [sgd(model.parameters()), torch.optim.SGD(model[4:].parameters(), 0.5)]

    def inputs(step):
        return model, optimisers[step % 2], *batch(step)

    return World(call=train, inputs=inputs, state={"model": model, "opts": optimisers})


@program(hits=4)
def mode_of_the_model_changes():
    world = trained(train, sgd)
    world.between = lambda step: world.state["model"].train(step % 4 < 2)
    return world


# ---------------------------------------------------------------------------- errors, decisions


@program(hits=4)
def error_before_the_backward_pass():
    log = []

    def call(model, opt, x, y):
        opt.zero_grad()
        log.append("begun")
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        log.append("done")
        opt.step()
        return loss

    world = trained(call, sgd, log=log)
    inputs = world.inputs

    def failing(step):
        model, opt, x, y = inputs(step)
        return model, opt, x, y + 5 * (step % 3 == 2)

    world.inputs = failing
    return world


@program(hits=3)
def decision_before_the_backward_pass():
    def call(model, opt, x, y):
        opt.zero_grad()
        loss = F.cross_entropy(model(x), y) * random.random()
        if loss > 0.4:
            loss = loss * 0.5
        loss.backward()
        opt.step()
        return loss

    return trained(call, sgd)


@program(hits=3)
def step_skipped_when_the_loss_is_low():
    def call(model, opt, x, y):
        loss = F.cross_entropy(model(x), y)
        if loss.item() < 0.7:
            return None
        model.zero_grad()
        loss.backward()
        opt.step()
        return loss.item()

    return trained(call, sgd)


@program(code="JL0407")
def decision_after_the_step():
    def call(model, opt, x, y):
        loss = train(model, opt, x, y)
        return loss if model[0].weight.sum() > 0 else -loss

    return trained(call, sgd)


@program(code="JL0407")
def step_inside_try():
    def call(model, opt, x, y):
        try:
            return train(model, opt, x, y)
        except RuntimeError:
            return None

    return trained(call, sgd)


@program(code="JL0201")
def step_with_a_closure():
    def call(model, opt, x, y):
        def closure():
            opt.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            return loss

        return opt.step(closure)

    return trained(call, lambda p: torch.optim.LBFGS(p, max_iter=2))


@program(code="JL0203")
def hook_of_the_programs_own():
    seen = []
    world = trained(train, sgd, seen=seen)
    world.state["model"][0].weight.register_hook(lambda grad: seen.append(1) or grad * 2)
    return world


@program(code="JL0203")
def hook_of_the_optimiser():
    seen = []
    world = trained(train, sgd, seen=seen)
    world.state["opt"].register_step_post_hook(lambda *_: seen.append(1))
    return world


@program(code="JL0203")
def learning_rate_by_a_lambda():
    return scheduled(lambda opt: torch.optim.lr_scheduler.LambdaLR(opt, lambda n: 1 / (1 + n)))


@program(code="JL0301")
def state_of_the_optimiser_read_after_the_step():
    def call(model, opt, x, y):
        loss = train(model, opt, x, y)
        return loss, len(opt.state)

    return trained(call, sgd)


@program(code="JL0301")
def learning_rate_read_after_the_schedulers_step():
    def call(model, opt, x, y):
        loss = train(model, opt, x, y)
        scheduler.step()
        return loss * opt.param_groups[0]["lr"]

    world = trained(call, sgd)
    scheduler = torch.optim.lr_scheduler.StepLR(world.state["opt"], 2)
    return world


# ------------------------------------------------------------------------------ gradients read


@program(hits=9)
def steps_by_hand():
    def call(model, opt, x, y):
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.1 * parameter.grad
                parameter.grad.zero_()
        return loss

    return trained(call, sgd)


@program(hits=9)
def gradients_looked_at():
    def call(model, opt, x, y):
        opt.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        norms = [p.grad.norm() for p in model.parameters() if p.grad is not None]
        opt.step()
        return loss, torch.stack(norms), model[0].weight.grad

    return trained(call, sgd)


@program(hits=8)
def gradient_of_a_layer_that_is_not_used():
    def call(model, opt, x, y):
        loss = F.cross_entropy(model[4](model[0](x)), y)
        used = model[1].weight * 1
        loss.backward()
        found = [model[1].weight.grad, model[4].weight.grad]
        opt.step()
        return found, used

    return trained(call, sgd)


@program(hits=6)
def gradient_left_by_the_outside():
    def call(model, opt, x, y):
        seen = None if model[0].weight.grad is None else model[0].weight.grad * 2
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        return seen, model[0].weight.grad.sum()

    def between(step):
        weight = world.state["model"][0].weight
        if step == 4:
            weight.grad = None
        if step == 8:
            weight.grad = torch.ones(3, 4).t()

    world = trained(call, sgd)
    world.between = between
    return world


# --------------------------------------------------------------------------------- more attacks


@program(hits=4)
def hook_added_after_some_steps():
    log = types.SimpleNamespace(seen=0)

    def call(model, opt, x, y):
        loss = train(model, opt, x, y)
        return loss * log.seen

    def between(step):
        weight = world.state["model"][0].weight
        if step == 6:
            weight.register_hook(count)
        if step == 9:
            weight._backward_hooks.clear()

    def count(grad):
        log.seen += 1
        return grad * 2

    world = trained(call, sgd, log=log)
    world.between = between
    return world


@program(hits=4)
def hook_after_accumulation_added_after_some_steps():
    log = types.SimpleNamespace(seen=0)

    def call(model, opt, x, y):
        loss = train(model, opt, x, y)
        return loss * log.seen

    def count(parameter):
        log.seen += 1

    def between(step):
        if step == 6:
            world.state["model"][0].weight.register_post_accumulate_grad_hook(count)

    world = trained(call, sgd, log=log)
    world.between = between
    return world


@program(hits=4)
def hook_of_the_optimiser_added_after_some_steps():
    log = types.SimpleNamespace(seen=0)

    def call(model, opt, x, y):
        loss = train(model, opt, x, y)
        return loss * log.seen

    def count(*_):
        log.seen += 1

    def between(step):
        if step == 6:
            world.state["opt"].register_step_post_hook(count)

    world = trained(call, sgd, log=log)
    world.between = between
    return world


@program(hits=4)
def step_of_the_optimiser_replaced():
    def call(model, opt, x, y):
        return train(model, opt, x, y)

    def between(step):
        if step == 6:
            world.state["opt"].step = lambda: None
        if step == 9:
            del world.state["opt"].step

    world = trained(call, sgd)
    world.between = between
    return world


@program(hits=9)
def weights_shared_by_two_layers():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.out = nn.Embedding(2, 3), nn.Linear(3, 2, bias=False)
            self.out.weight = self.embed.weight

        def forward(self, x):
            return self.out(x + self.embed.weight.sum(0))

    return trained(train, sgd, Tied())


@program(code="JL0201")
def input_with_a_history():
    scale = torch.ones(3, requires_grad=True)

    def call(model, opt, x, y):
        return train(model, opt, x, y)

    world = trained(call, sgd, scale=scale)
    inputs = world.inputs

    def with_history(step):
        model, opt, x, y = inputs(step)
        return model, opt, x * scale, y

    world.inputs = with_history
    return world


@program(hits=3)
def input_gets_a_history():
    scale = torch.ones(3, requires_grad=True)
    world = trained(train, sgd, scale=scale)
    inputs = world.inputs

    def with_history(step):
        model, opt, x, y = inputs(step)
        return model, opt, (x * scale if step > 5 else x.requires_grad_()), y

    world.inputs = with_history
    return world


@program(code="JL0201")
def backward_in_python():
    log = []

    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, grad):
            log.append(1)
            return grad * 2

    def call(model, opt, x, y):
        opt.zero_grad()
        loss = F.cross_entropy(Double.apply(model(x)), y)
        loss.backward()
        opt.step()
        return loss, len(log)

    return trained(call, sgd, log=log)


@program(hits=9)
def parameters_regrouped_outside():
    def call(model, opt, x, y):
        return train(model, opt, x, y), opt.param_groups[0]["lr"]

    def between(step):
        opt, model = world.state["opt"], world.state["model"]
        if step == 6:
            opt.param_groups[0]["params"].pop()
        if step == 9:
            opt.add_param_group({"params": [model[4].bias], "lr": 0.5})

    world = trained(call, sgd)
    world.between = between
    return world


@program(hits=2)
def groups_changed_inside_before_a_decision():
    def call(model, opt, x, y):
        opt.param_groups[0]["params"] = list(model.parameters())[:2]
        opt.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        opt.step()
        return loss

    return trained(call, sgd)


@program(hits=0)
def groups_changed_inside_above_a_decision():
    def call(model, opt, x, y):
        opt.param_groups[0]["params"] = list(model.parameters())[: 2 + x.shape[0] % 2]
        opt.zero_grad()
        loss = F.cross_entropy(model(x), y)
        if loss > 0.6:
            loss = loss * 2
        loss.backward()
        opt.step()
        return loss

    return trained(call, sgd)


@program(hits=9)
def state_read_before_the_step():
    def call(model, opt, x, y):
        known = len(opt.state)
        return train(model, opt, x, y), known

    return trained(call, sgd)


@program(hits=7)
def noise_and_text_around_the_step():
    log = types.SimpleNamespace(total=0.0)

    def call(model, opt, x, y):
        x = x + torch.randn_like(x) * random.random()
        print("before", x.mean())
        loss = train(model, opt, x, y)
        print(f"after {loss.item():.3f}", model[0].weight.sum())
        log.total += loss.item()
        return loss, random.random()

    return trained(call, sgd, log=log)


@program(hits=4)
def error_in_the_optimiser():
    log = []

    def call(model, opt, x, y):
        log.append("begun")
        loss = F.cross_entropy(model(x), y)
        opt.zero_grad()
        loss.backward()
        log.append("backward")
        opt.step()
        log.append("done")
        return loss

    def between(step):
        for group in world.state["opt"].param_groups:
            group["momentum"] = "much" if step % 4 == 3 else 0.9

    world = trained(call, sgd, log=log)
    world.between = between
    return world


@program(hits=9)
def gradients_let_go_by_hand():
    def call(model, opt, x, y):
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        opt.step()
        for parameter in model.parameters():
            parameter.grad = None
        return loss

    return trained(call, sgd)


@program(hits=9)
def gradients_set_by_hand():
    def call(model, opt, x, y):
        loss = F.cross_entropy(model(x), y)
        weights = list(model.parameters())
        for weight, gradient in zip(weights, torch.autograd.grad(loss, weights)):
            weight.grad = gradient * 0.5
        opt.step()
        return loss, model[0].weight.grad

    return trained(call, sgd)


@program(hits=9)
def plain_tensors_trained_by_hand():
    weight = torch.zeros(3, 2, requires_grad=True)
    bias = torch.zeros(2, requires_grad=True)

    def call(x, y):
        loss = F.cross_entropy(x @ weight + bias, y)
        loss.backward()
        with torch.no_grad():
            for tensor in (weight, bias):
                tensor.sub_(tensor.grad * 0.1)
                tensor.grad.zero_()
        return loss

    return World(call=call, inputs=batch, state={"weight": weight, "bias": bias})


@program(hits=8)
def average_of_the_weights():
    average = network()

    def call(model, opt, x, y):
        loss = train(model, opt, x, y)
        with torch.no_grad():
            for kept, weight in zip(average.parameters(), model.parameters()):
                kept.lerp_(weight, 0.1)
        return loss, average(x)

    return trained(call, lambda p: torch.optim.Adam(p, 0.01), average=average)


@program(hits=8)
def several_steps_in_one_call():
    def call(model, opt, x, y):
        losses = [train(model, opt, x, y).item() for _ in range(3)]
        with torch.no_grad():
            model[0].weight.mul_(0.99)
        return losses, model(x)

    return trained(call, sgd)


@program(hits=8)
def penalty_on_the_gradient():
    def call(model, opt, x, y):
        loss = F.cross_entropy(model(x), y)
        gradients = torch.autograd.grad(loss, list(model.parameters()), create_graph=True)
        penalty = sum(g.pow(2).sum() for g in gradients)
        (loss + penalty).backward()
        opt.step()
        opt.zero_grad()
        return loss, penalty

    return trained(call, sgd)
