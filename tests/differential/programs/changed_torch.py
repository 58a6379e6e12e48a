"""Outside changes of modules, parameters, hooks and of torch itself."""
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, no-check-untyped-defs, disable-error-code="annotation-unchecked, redundant-cast"

from __future__ import annotations

import contextlib
import copy

import numpy as np
import torch
import torch.nn.functional as F
from tests.differential.kit import CHANGE_AT, World, change, fresh_tensor
from torch import nn
from torch.nn.utils import parametrizations, parametrize


class Net(nn.Module):
    """Two layers, a plain number and a list of layers."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 3)
        self.second = nn.Linear(3, 3)
        self.scale = 2.0
        self.register_buffer("shift", torch.ones(3))
        self.plain = [nn.Linear(3, 3)]

    def forward(self, x):
        return self.second(F.relu(self.first(x))) * self.scale + self.shift


def net(**kwargs):
    model = Net()
    return model, World(call=model, backward=True, state={"model": model}, **kwargs)


def from_change_on(make):
    """A context for the calls from the change on, none before."""
    return lambda step: make() if step >= CHANGE_AT else contextlib.nullcontext()


def world_of(model, change):
    return World(call=model, change=change, backward=True)


@contextlib.contextmanager
def patched(owner, name, value):
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


# ------------------------------------------------------------------------------- modes


@change()
def eval_mode():
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5), nn.BatchNorm1d(3))
    return world_of(model, model.eval)


@change()
def train_mode_of_a_submodule():
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5))
    return world_of(model, model[1].eval)


@change()
def training_flag_written_directly():
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5))
    return world_of(model, lambda: setattr(model[1], "training", False))


@change()
def no_grad_mode():
    return World(call=Net(), around=from_change_on(torch.no_grad))


@change()
def inference_mode():
    return World(call=Net(), around=from_change_on(torch.inference_mode))


@change()
def autocast_mode():
    return World(call=Net(), around=from_change_on(lambda: torch.autocast("cpu", torch.bfloat16)))


@change()
def autocast_dtype():
    dtypes = [torch.bfloat16]

    def around(step):
        return torch.autocast("cpu", dtypes[-1])

    return World(call=Net(), around=around, change=lambda: dtypes.append(torch.float16))


@change()
def default_dtype():
    @contextlib.contextmanager
    def doubles():
        torch.set_default_dtype(torch.float64)
        try:
            yield
        finally:
            torch.set_default_dtype(torch.float32)

    def call(x):
        return torch.zeros(3) + 1, torch.tensor([1.5])

    return World(call=call, around=from_change_on(doubles))


@change()
def default_device():
    return World(
        call=lambda x: torch.ones(3) * 2, around=from_change_on(lambda: torch.device("meta"))
    )


@change()
def deterministic_mode():
    @contextlib.contextmanager
    def deterministic():
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(False)

    def call(x):
        return x * 2 if torch.are_deterministic_algorithms_enabled() else x * 3

    return World(call=call, around=from_change_on(deterministic))


@change()
def grad_mode_read_by_the_function():
    def call(x):
        return x * 2 if torch.is_grad_enabled() else x * 3

    return World(call=call, around=from_change_on(torch.no_grad))


@change()
def function_mode_of_the_user():
    class Doubling(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            return result * 2 if func is torch.Tensor.mul else result

    return World(call=lambda x: x * 3, around=from_change_on(Doubling))


@change()
def dispatch_mode_of_the_user():
    from torch.utils._python_dispatch import TorchDispatchMode

    class Doubling(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            return result * 2 if func is torch.ops.aten.mul.Tensor else result

    return World(call=lambda x: x * 3, around=from_change_on(Doubling))


@change()
def saved_tensor_hooks():
    def around(step):
        if step < CHANGE_AT:
            return contextlib.nullcontext()
        return torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t * 2)

    return World(call=Net(), around=around, backward=True, inputs=followed)


def followed(step):
    return (fresh_tensor(step)[0].requires_grad_(),)


@change(is_visible=False)
def anomaly_mode():
    return World(call=Net(), around=from_change_on(torch.autograd.detect_anomaly), backward=True)


# ------------------------------------------------------------------------- parameters, buffers


@change()
def parameter_assigned():
    model, world = net()
    world.change = lambda: setattr(model.first, "weight", nn.Parameter(torch.ones(3, 3)))
    return world


@change()
def parameter_written_into_the_table():
    model, world = net()
    world.change = lambda: model.first._parameters.update(weight=nn.Parameter(torch.ones(3, 3)))
    return world


@change()
def parameter_data_assigned():
    model, world = net()
    world.change = lambda: setattr(model.first.weight, "data", torch.ones(3, 3))
    return world


@change()
def parameter_changed_in_place():
    model, world = net()

    def change():
        with torch.no_grad():
            model.first.weight.fill_(1.0)

    world.change = change
    return world


@change()
def parameter_moved_to_other_strides():
    model, world = net()
    world.change = lambda: setattr(model.first.weight, "data", torch.randn(3, 3).t())
    return world


@change()
def parameter_set_to_none():
    model, world = net()
    world.change = lambda: setattr(model.first, "bias", None)
    return world


@change()
def parameter_deleted_and_registered_again():
    model, world = net()

    def change():
        del model.first.weight
        model.first.register_parameter("weight", nn.Parameter(torch.ones(3, 3)))

    world.change = change
    return world


@change()
def parameters_tied():
    model, world = net()
    world.change = lambda: setattr(model.second, "weight", model.first.weight)
    return world


@change()
def parameters_untied():
    model, world = net()
    model.second.weight = model.first.weight
    world.change = lambda: setattr(
        model.second, "weight", nn.Parameter(model.first.weight.detach() + 1)
    )
    return world


@change()
def state_dict_loaded():
    model, world = net()
    state = {k: torch.ones_like(v) for k, v in model.state_dict().items()}
    world.change = lambda: model.load_state_dict(state)
    return world


@change()
def state_dict_assigned():
    model, world = net()
    state = {k: torch.ones_like(v) for k, v in model.state_dict().items()}
    world.change = lambda: model.load_state_dict(state, assign=True)
    return world


@change()
def requires_grad_off():
    model, world = net()
    world.change = lambda: model.first.requires_grad_(False)
    return world


@change()
def whole_model_frozen():
    model, world = net()
    world.change = lambda: model.requires_grad_(False)
    return world


@change()
def converted_to_double():
    model = Net()
    dtypes = [torch.float32]

    def change():
        model.double()
        dtypes.append(torch.float64)

    def inputs(step):
        return (fresh_tensor(step)[0].to(dtypes[-1]),)

    return World(call=model, change=change, inputs=inputs)


@change()
def converted_to_half_alone():
    model, world = net()
    world.change = model.half
    return world


@change()
def converted_by_to():
    model, world = net()
    world.change = lambda: model.to(torch.bfloat16)
    return world


@change()
def moved_to_meta():
    model = Net()
    return World(call=model, change=lambda: model.to("meta"))


@change()
def channels_last():
    model = nn.Conv2d(3, 4, 3)
    return World(
        call=model,
        inputs=lambda step: (
            torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(step)),
        ),
        change=lambda: model.to(memory_format=torch.channels_last),
    )


@change()
def buffer_assigned():
    model, world = net()
    world.change = lambda: setattr(model, "shift", torch.zeros(3))
    return world


@change()
def buffer_written_into_the_table():
    model, world = net()
    world.change = lambda: model._buffers.update(shift=torch.zeros(3))
    return world


@change()
def buffer_changed_in_place():
    model, world = net()
    world.change = lambda: model.shift.zero_()
    return world


@change()
def buffer_of_another_shape():
    model, world = net()
    world.change = lambda: setattr(model, "shift", torch.zeros(4, 3))
    return world


@change()
def running_statistics_reset():
    model = nn.BatchNorm1d(3)
    return World(call=model, change=model.reset_running_stats)


@change()
def momentum_changed():
    model = nn.BatchNorm1d(3)
    return World(call=model, change=lambda: setattr(model, "momentum", 0.9))


@change()
def gradient_read_by_the_function():
    weight = nn.Parameter(torch.ones(3))

    def call(x):
        return x if weight.grad is None else x * weight.grad

    return World(call=call, change=lambda: setattr(weight, "grad", torch.full((3,), 5.0)))


@change()
def parameter_list_grows():
    model = nn.ParameterList([nn.Parameter(torch.ones(3))])

    def call(x):
        for parameter in model:
            x = x * 2 + parameter
        return x

    return World(call=call, change=lambda: model.append(nn.Parameter(torch.ones(3))))


@change()
def parameter_dict_entry():
    model = nn.ParameterDict({"a": nn.Parameter(torch.ones(3))})
    return World(
        call=lambda x: x * model["a"],
        change=lambda: model.update({"a": nn.Parameter(torch.zeros(3))}),
    )


@change()
def parametrization_registered():
    class Doubled(nn.Module):
        def forward(self, weight):
            return weight * 2

    model, world = net()
    world.change = lambda: parametrize.register_parametrization(model.first, "weight", Doubled())
    return world


@change()
def parametrization_removed():
    class Doubled(nn.Module):
        def forward(self, weight):
            return weight * 2

    model, world = net()
    parametrize.register_parametrization(model.first, "weight", Doubled())
    world.change = lambda: parametrize.remove_parametrizations(model.first, "weight")
    world.backward = False
    return world


@change()
def weight_norm_added():
    model, world = net()
    world.change = lambda: parametrizations.weight_norm(model.first)
    return world


# ----------------------------------------------------------------------------- module tree


@change()
def plain_attribute_of_a_module():
    model, world = net()
    world.change = lambda: setattr(model, "scale", 3.0)
    return world


@change()
def plain_attribute_by_dict():
    model, world = net()
    world.change = lambda: model.__dict__.update(scale=3.0)
    return world


@change()
def submodule_replaced():
    model, world = net()
    world.change = lambda: setattr(model, "first", nn.Linear(3, 3))
    return world


@change()
def submodule_replaced_in_the_table():
    model, world = net()
    world.change = lambda: model._modules.update(first=nn.Linear(3, 3))
    return world


@change()
def submodule_shadowed_by_the_instance_dict():
    model, world = net()
    world.change = lambda: model.__dict__.update(first=lambda x: x * 2)
    return world


@change()
def submodule_of_another_class():
    model, world = net()
    world.change = lambda: setattr(model, "first", nn.Identity())
    return world


@change()
def sequential_appended():
    model = nn.Sequential(nn.Linear(3, 3))
    return world_of(model, lambda: model.append(nn.Linear(3, 3)))


@change()
def sequential_shortened():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    return world_of(model, lambda: model.pop(1))


@change()
def sequential_reordered():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))

    def change():
        model[0], model[1] = model[1], model[0]

    return world_of(model, change)


@change()
def module_list_reordered():
    class Layers(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])

        def forward(self, x):
            for layer in self.layers:
                x = layer(x)
            return x

    model = Layers()

    def change():
        model.layers[0], model.layers[1] = model.layers[1], model.layers[0]

    return world_of(model, change)


@change()
def module_dict_entry():
    class Layers(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleDict({"a": nn.Linear(3, 3)})

        def forward(self, x):
            for name, layer in self.layers.items():
                x = layer(x) + len(name)
            return x

    model = Layers()
    return world_of(model, lambda: model.layers.update({"bb": nn.Linear(3, 3)}))


@change()
def modules_in_a_plain_list():
    model, _ = net()

    def call(x):
        return model.plain[0](x)

    return World(call=call, change=lambda: model.plain.__setitem__(0, nn.Linear(3, 3)))


@change()
def module_class_assigned():
    class Louder(Net):
        def forward(self, x):
            return super().forward(x) * 100

    model, world = net()
    world.change = lambda: setattr(model, "__class__", Louder)
    return world


@change()
def submodule_class_assigned():
    class Louder(nn.Linear):
        def forward(self, x):
            return super().forward(x) * 100

    model, world = net()
    world.change = lambda: setattr(model.first, "__class__", Louder)
    return world


@change()
def forward_replaced_on_the_class():
    model, world = net()
    world.change = lambda: setattr(Net, "forward", lambda self, x: x * 3)
    return world


@change()
def forward_replaced_on_a_submodule():
    model, world = net()
    world.change = lambda: setattr(model.first, "forward", lambda x: x * 3)
    return world


@change()
def linear_forward_patched():
    model, world = net()
    world.around = from_change_on(lambda: patched(nn.Linear, "forward", lambda self, x: x * 3))
    return world


@change()
def module_call_patched():
    before = nn.Module.__call__
    model, world = net()
    world.around = from_change_on(
        lambda: patched(nn.Module, "__call__", lambda self, x: before(self, x) * 2)
    )
    world.backward = False
    return world


@change()
def relu_patched():
    model, world = net()
    world.around = from_change_on(lambda: patched(F, "relu", lambda x: x * 3))
    return world


@change()
def torch_function_patched():
    return World(
        call=lambda x: torch.sin(x), around=from_change_on(lambda: patched(torch, "sin", torch.cos))
    )


@change()
def tensor_method_patched():
    return World(
        call=lambda x: x.sin(),
        around=from_change_on(lambda: patched(torch.Tensor, "sin", torch.Tensor.cos)),
    )


# ----------------------------------------------------------------------------------- hooks


def times(factor):
    return lambda module, args, output: output * factor


@change()
def forward_hook_on_the_root():
    model, world = net()
    world.change = lambda: model.register_forward_hook(times(2))
    return world


@change()
def forward_hook_on_a_submodule():
    model, world = net()
    world.change = lambda: model.first.register_forward_hook(times(2))
    return world


@change()
def forward_hook_removed():
    model, world = net()
    handle = model.first.register_forward_hook(times(2))
    world.change = handle.remove
    return world


@change()
def forward_hook_exchanged():
    model, world = net()
    handle = model.first.register_forward_hook(times(2))

    def change():
        handle.remove()
        model.first.register_forward_hook(times(3))

    world.change = change
    return world


@change()
def state_of_a_forward_hook():
    factor = [2.0]
    model, world = net()
    model.first.register_forward_hook(lambda module, args, output: output * factor[0])
    world.change = lambda: factor.__setitem__(0, 5.0)
    return world


@change()
def forward_pre_hook():
    model, world = net()
    world.change = lambda: model.first.register_forward_pre_hook(
        lambda module, args: (args[0] * 2,)
    )
    return world


@change()
def forward_pre_hook_with_kwargs():
    model, world = net()
    world.change = lambda: model.first.register_forward_pre_hook(
        lambda module, args, kwargs: ((args[0] * 2,), kwargs), with_kwargs=True
    )
    return world


@change()
def full_backward_hook():
    model, world = net()
    world.change = lambda: model.first.register_full_backward_hook(
        lambda module, grads, outputs: tuple(g * 2 if g is not None else None for g in grads)
    )
    world.inputs = followed
    return world


@change()
def full_backward_pre_hook():
    model, world = net()
    world.change = lambda: model.first.register_full_backward_pre_hook(
        lambda module, grads: tuple(g * 2 for g in grads)
    )
    return world


@change()
def hook_on_a_parameter():
    model, world = net()
    world.change = lambda: model.first.weight.register_hook(lambda grad: grad * 2)
    return world


@change()
def hook_after_accumulation():
    model, world = net()
    world.change = lambda: model.first.weight.register_post_accumulate_grad_hook(
        lambda parameter: setattr(parameter, "grad", parameter.grad * 2)
    )
    return world


@change()
def global_forward_hook():
    @contextlib.contextmanager
    def hooked():
        handle = nn.modules.module.register_module_forward_hook(times(2))
        try:
            yield
        finally:
            handle.remove()

    return World(call=Net(), around=from_change_on(hooked))


@change()
def hook_written_into_the_table():
    model, world = net()
    world.change = lambda: model.first._forward_hooks.update({9999: times(2)})
    return world


@change()
def state_dict_hook_only():
    model, world = net()
    world.change = lambda: (
        model.register_state_dict_post_hook(lambda *args: None),
        setattr(model, "scale", 4.0),
    )
    return world


# ---------------------------------------------------------------------------------- inputs


def with_inputs(call, before, after, **kwargs):
    return World(call=call, inputs=lambda s: before(s) if s < CHANGE_AT else after(s), **kwargs)


def double(x):
    return x * 2 + x.sum()


@change()
def input_shape():
    return with_inputs(double, fresh_tensor, lambda s: (torch.ones(2, 5),))


@change()
def input_rank():
    return with_inputs(double, fresh_tensor, lambda s: (torch.ones(3),))


@change()
def input_dtype():
    return with_inputs(double, fresh_tensor, lambda s: (torch.ones(4, 3, dtype=torch.int64),))


@change()
def input_strides():
    def view(x):
        return x.view(-1) if x.is_contiguous() else x.t().view(-1) * 2

    return with_inputs(view, fresh_tensor, lambda s: (torch.randn(3, 4).t(),))


@change()
def input_device():
    return with_inputs(double, fresh_tensor, lambda s: (torch.ones(4, 3, device="meta"),))


@change()
def input_requires_grad():
    return with_inputs(double, fresh_tensor, followed, backward=True)


@change()
def input_is_not_a_leaf():
    def call(x):
        return x * 2 if x.is_leaf else x * 3

    return with_inputs(call, followed, lambda s: (followed(s)[0] + 1,))


@change()
def input_is_a_subclass():
    class Loud(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            result = super().__torch_function__(func, types, args, kwargs or {})
            return result + 1 if func is torch.Tensor.mul else result

    return with_inputs(double, fresh_tensor, lambda s: (fresh_tensor(s)[0].as_subclass(Loud),))


@change()
def input_is_a_parameter():
    def call(x):
        return x * 2 if isinstance(x, nn.Parameter) else x * 3

    return with_inputs(call, followed, lambda s: (nn.Parameter(fresh_tensor(s)[0]),))


@change()
def input_is_sparse():
    return with_inputs(lambda x: x * 2, fresh_tensor, lambda s: (torch.eye(3).to_sparse(),))


@change()
def input_is_conjugated():
    def inputs(step):
        return (
            torch.randn(3, dtype=torch.complex64, generator=torch.Generator().manual_seed(step)),
        )

    def call(x):
        return x * 3 if x.is_conj() else x * 2

    return with_inputs(call, inputs, lambda s: (inputs(s)[0].conj(),))


@change()
def input_is_negated_view():
    def inputs(step):
        z = torch.randn(3, dtype=torch.complex64, generator=torch.Generator().manual_seed(step))
        return (z.imag,)

    def call(x):
        return x * 3 if x.is_neg() else x * 2

    def negated(step):
        z = torch.randn(3, dtype=torch.complex64, generator=torch.Generator().manual_seed(step))
        return (z.conj().imag,)

    return with_inputs(call, inputs, negated)


@change()
def input_made_in_inference_mode():
    def call(x):
        return x * 3 if x.is_inference() else x * 2

    def made(step):
        with torch.inference_mode():
            return (fresh_tensor(step)[0].clone(),)

    return with_inputs(call, fresh_tensor, made)


@change()
def input_offset():
    def call(x):
        return x * 2 if x.storage_offset() == 0 else x * 3

    return with_inputs(call, fresh_tensor, lambda s: (torch.randn(5, 3)[1:],))


@change()
def inputs_become_the_same_tensor():
    def call(x, y):
        return x * 2 if x is y else x * 3

    def same(step):
        return fresh_tensor(step) * 2

    return with_inputs(call, lambda s: (*fresh_tensor(s), *fresh_tensor(s)), same)


@change()
def inputs_become_the_same_tensor_and_are_written():
    def call(x, y):
        x.add_(1)
        return y * 2

    def same(step):
        return fresh_tensor(step) * 2

    return with_inputs(call, lambda s: (*fresh_tensor(s), *fresh_tensor(s)), same)


@change()
def inputs_become_views_of_one_storage_and_are_written():
    def call(x, y):
        x.add_(1)
        return y * 2

    def overlapping(step):
        base = torch.randn(5, 3)
        return base[:4], base[1:]

    return with_inputs(call, lambda s: (*fresh_tensor(s), *fresh_tensor(s)), overlapping)


@change()
def input_becomes_the_parameter():
    model = Net()

    def call(x):
        return model.first.weight * 2 if x is model.first.weight else x * 3

    def parameter(step):
        return (model.first.weight,)

    return with_inputs(call, lambda s: (nn.Parameter(torch.ones(3, 3)),), parameter)


@change()
def input_has_a_python_attribute():
    def call(x):
        return x * getattr(x, "scale", 2.0)

    def tagged(step):
        (x,) = fresh_tensor(step)
        x.scale = 5.0
        return (x,)

    return with_inputs(call, fresh_tensor, tagged)


@change()
def input_has_a_gradient():
    def call(x):
        return x * 2 if x.grad is None else x * 3

    def graded(step):
        (x,) = followed(step)
        x.grad = torch.ones_like(x)
        return (x,)

    return with_inputs(call, followed, graded)


@change()
def input_has_a_hook():
    def hooked(step):
        (x,) = followed(step)
        x.register_hook(lambda grad: grad * 2)
        return (x,)

    return with_inputs(double, followed, hooked, backward=True)


@change()
def value_of_a_tensor_flips_a_branch():
    def call(x):
        return x * 2 if x.sum() > 0 else x * 3

    return with_inputs(call, lambda s: (torch.ones(3) * (s + 1),), lambda s: (-torch.ones(3),))


@change()
def number_of_true_entries():
    return with_inputs(
        lambda x: x[x > 0] * 2, lambda s: (torch.tensor([1.0, -1.0, 2.0 + s]),), fresh_tensor
    )


@change()
def generator_state():
    generator = torch.Generator().manual_seed(0)

    def call(x):
        return x + torch.rand(3, generator=generator)

    return World(call=call, state={"state": generator}, change=lambda: generator.manual_seed(7))


@change()
def outside_tensor_rebound():
    class Box:
        tensor = None

    box = Box()
    box.tensor = torch.ones(3)
    return World(
        call=lambda x: x + box.tensor, change=lambda: setattr(box, "tensor", torch.zeros(3))
    )


@change()
def outside_tensor_becomes_none():
    class Box:
        tensor = None

    box = Box()
    box.tensor = torch.ones(3)

    def call(x):
        return x if box.tensor is None else x + box.tensor

    return World(call=call, change=lambda: setattr(box, "tensor", None))


@change()
def outside_none_becomes_tensor():
    class Box:
        tensor = None

    box = Box()

    def call(x):
        return x if box.tensor is None else x + box.tensor

    return World(call=call, change=lambda: setattr(box, "tensor", torch.ones(3)))


@change(hits=0)
def outside_numpy_array():
    array = np.ones(3, dtype=np.float32)
    return World(call=lambda x: x + torch.from_numpy(array), change=lambda: array.fill(5.0))


@change()
def outside_tensor_resized():
    base = torch.ones(6)
    return World(call=lambda x: base * 2, change=lambda: base.resize_(3))


@change()
def outside_tensor_set_to_other_storage():
    base = torch.ones(6)
    return World(call=lambda x: base * 2, change=lambda: base.set_(torch.zeros(6)))


@change()
def state_copied_back():
    model, world = net()
    saved = copy.deepcopy(model.state_dict())

    def change():
        with torch.no_grad():
            for name, value in model.state_dict().items():
                value.copy_(saved[name] + 1)

    world.change = change
    return world


@change()
def optimizer_step_outside():
    model, world = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    world.between = lambda step: step == CHANGE_AT and optimizer.step()
    world.change = lambda: None
    return World(call=model, backward=True, change=optimizer.step, state={"model": model})


@change()
def gradients_set_to_zero():
    model, world = net()
    world.change = lambda: [p.grad.zero_() for p in model.parameters() if p.grad is not None]
    return world


@change()
def matmul_precision():
    def call(x):
        return x * 2 if torch.get_float32_matmul_precision() == "highest" else x * 3

    @contextlib.contextmanager
    def medium():
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("medium")
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)

    return World(call=call, around=from_change_on(medium))


@change(is_visible=False)
def onednn_switched_off():
    model = nn.Conv2d(3, 4, 3)
    return World(
        call=model,
        inputs=lambda step: (
            torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(step)),
        ),
        around=from_change_on(lambda: torch.backends.mkldnn.flags(enabled=False)),
    )


@change()
def fastpath_of_attention_switched_off():
    @contextlib.contextmanager
    def slow():
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            yield
        finally:
            torch.backends.mha.set_fastpath_enabled(True)

    def call(x):
        return x * 2 if torch.backends.mha.get_fastpath_enabled() else x * 3

    return World(call=call, around=from_change_on(slow))
