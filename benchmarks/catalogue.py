"""The programs that the suites `micro` and `models` measure.

Everything a package ships is built from that package, with seeded random weights; what no
package ships is in `benchmarks/models/`. Batch 1 unless said: there the host decides.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn

from benchmarks.architectures.base import WEIGHT_SEED, Call, integers, normal, seeded
from benchmarks.cases import Case, Program
from benchmarks.models.amoebanet import amoebanet
from benchmarks.models.darts import darts
from benchmarks.models.lenet import LeNet
from benchmarks.models.lstm_loop import LSTMLoop
from benchmarks.models.nasnet import nasnet_a_large, nasnet_a_mobile

InputMaker = Callable[[int], Call]


def _add_one(x: Tensor) -> Tensor:
    return x + 1


def _add_one_program() -> Program:
    return Program(_add_one, lambda seed: Call((normal(seed, 8),), {}))


def _ten_linear() -> Program:
    with seeded(WEIGHT_SEED):
        model = nn.Sequential(*(nn.Linear(8, 8) for _ in range(10)))
    return Program(model, lambda seed: Call((normal(seed, 1, 8),), {}))


def _tokens(batch: int, length: int, vocabulary: int) -> InputMaker:
    def make_inputs(seed: int) -> Call:
        return Call((), {"input_ids": integers(seed, 3, vocabulary, batch, length)})

    return make_inputs


def _images(batch: int, size: int, channels: int = 3) -> InputMaker:
    return lambda seed: Call((normal(seed, batch, channels, size, size),), {})


def _own(model: Callable[[], nn.Module], make_inputs: InputMaker) -> Program:
    with seeded(WEIGHT_SEED):
        return Program(model(), make_inputs)


def _torchvision(name: str, size: int, batch: int = 1, **options: Any) -> Program:
    import torchvision

    with seeded(WEIGHT_SEED):
        model = torchvision.models.get_model(name, weights=None, **options)
    return Program(model, _images(batch, size))


def _timm(name: str, size: int, batch: int = 1, **options: Any) -> Program:
    import timm

    with seeded(WEIGHT_SEED):
        model = timm.create_model(name, pretrained=False, **options)
    return Program(model, _images(batch, size))


def _transformers(
    model_type: str, class_name: str, config: dict[str, Any], make_inputs: InputMaker
) -> Program:
    import transformers

    with seeded(WEIGHT_SEED):
        model = getattr(transformers, class_name)(transformers.CONFIG_MAPPING[model_type](**config))
    return Program(model, make_inputs)


def tiny_bert() -> Program:
    """Return BERT with 4 layers, hidden size 128, for 32 tokens."""
    config = _text(layers=4, hidden=128, heads=2)
    return _transformers("bert", "BertModel", config, _TEXT_32)


def twelve_layer_encoder() -> Program:
    """Return a 12-layer transformer encoder, BERT-base's shape, for 32 tokens."""
    config = _text(layers=12, hidden=768, heads=12)
    return _transformers("bert", "BertModel", config, _TEXT_32)


def resnet50() -> Program:
    """Return torchvision's ResNet-50 for one image of 224 x 224."""
    return _torchvision("resnet50", 224)


_VOCABULARY = 1_000


def _text(*, layers: int, hidden: int, heads: int, **more: Any) -> dict[str, Any]:
    return {
        "vocab_size": _VOCABULARY,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * hidden,
        "max_position_embeddings": 512,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        **more,
    }


_SMALL = _text(layers=6, hidden=256, heads=4)
_DECODER = {**_SMALL, "use_cache": False}
_GPT2 = {**_DECODER, "n_embd": 256, "n_layer": 6, "n_head": 4, "n_positions": 512}
_T5: dict[str, Any] = {
    "vocab_size": _VOCABULARY, "d_model": 256, "d_kv": 64, "d_ff": 1024, "num_layers": 4,
    "num_heads": 4, "decoder_start_token_id": 0, "use_cache": False,
}  # fmt: skip
_EXPERTS = {**_DECODER, "num_key_value_heads": 2, "num_local_experts": 4, "num_experts_per_tok": 2}


class _StackedLSTM(nn.Module):
    """torch's own LSTM as a language model uses it."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(_VOCABULARY, 128)
        self.lstm = nn.LSTM(128, 256, num_layers=2, batch_first=True)
        self.head = nn.Linear(256, _VOCABULARY)

    def forward(self, input_ids: Tensor) -> Tensor:
        states, _ = self.lstm(self.embed(input_ids))
        logits: Tensor = self.head(states)
        return logits


def _source_and_target(seed: int) -> Call:
    source = integers(seed, 3, _VOCABULARY, 1, 32)
    target = integers(seed + 1_000, 3, _VOCABULARY, 1, 16)
    return Call((), {"input_ids": source, "decoder_input_ids": target})


def _case(name: str, build: Callable[[], Program], *marks: str) -> Case:
    """Make a case; marks are `quick`, `compiled` (in a quick run too), `training`, `random`."""
    return Case(
        name=name,
        build=build,
        is_random="random" in marks,
        is_training="training" in marks,
        is_quick="quick" in marks,
        is_compiled_in_quick="compiled" in marks,
    )


_TEXT_32 = _tokens(1, 32, _VOCABULARY)
_lstm_loop = partial(_own, LSTMLoop, lambda seed: Call((normal(seed, 32, 1, 64),), {}))

CALLS: tuple[Case, ...] = (
    _case("x_plus_1", _add_one_program, "quick", "compiled"),
    _case("ten_linear_8", _ten_linear, "quick", "compiled"),
    _case("tiny_bert", tiny_bert, "quick", "compiled"),
    _case("lstm_loop_32", _lstm_loop, "quick", "compiled"),
)

MODELS: tuple[Case, ...] = (
    _case("lenet", partial(_own, LeNet, _images(1, 32, 1)), "quick", "compiled"),
    _case("alexnet", partial(_torchvision, "alexnet", 224), "quick", "compiled"),
    _case("vgg11", partial(_torchvision, "vgg11", 224)),
    _case("resnet18", partial(_torchvision, "resnet18", 224), "quick"),
    _case("resnet50", resnet50, "quick"),
    _case("densenet121", partial(_torchvision, "densenet121", 224)),
    _case("googlenet", partial(_torchvision, "googlenet", 224, init_weights=False)),
    _case("inception_v3", partial(_torchvision, "inception_v3", 299, init_weights=False)),
    _case("squeezenet", partial(_torchvision, "squeezenet1_1", 224)),
    _case("shufflenet_v2", partial(_torchvision, "shufflenet_v2_x1_0", 224)),
    _case("mobilenet_v2", partial(_torchvision, "mobilenet_v2", 224)),
    _case("mobilenet_v3", partial(_torchvision, "mobilenet_v3_small", 224), "quick"),
    _case("efficientnet_b0", partial(_torchvision, "efficientnet_b0", 224), "quick"),
    _case("regnet_y_400mf", partial(_torchvision, "regnet_y_400mf", 224)),
    _case("convnext_atto", partial(_timm, "convnext_atto", 224)),
    _case("vit_tiny", partial(_timm, "vit_tiny_patch16_224", 224), "quick"),
    _case("swin_tiny", partial(_timm, "swin_tiny_patch4_window7_224", 224), "quick"),
    _case("mixer_s32", partial(_timm, "mixer_s32_224", 224)),
    _case("lstm", partial(_own, _StackedLSTM, _TEXT_32), "quick"),
    _case("bert", partial(_transformers, "bert", "BertModel", _SMALL, _TEXT_32), "quick"),
    _case("bert_base", twelve_layer_encoder),
    _case("roberta", partial(_transformers, "roberta", "RobertaModel", _SMALL, _TEXT_32)),
    _case("gpt2", partial(_transformers, "gpt2", "GPT2LMHeadModel", _GPT2, _TEXT_32),
          "quick", "compiled"),
    _case("llama", partial(_transformers, "llama", "LlamaForCausalLM", _DECODER, _TEXT_32),
          "quick"),
    _case("qwen3", partial(_transformers, "qwen3", "Qwen3ForCausalLM", _DECODER, _TEXT_32)),
    _case("gemma2", partial(_transformers, "gemma2", "Gemma2ForCausalLM", _DECODER, _TEXT_32)),
    _case("mixtral", partial(_transformers, "mixtral", "MixtralForCausalLM", _EXPERTS, _TEXT_32)),
    _case("mamba", partial(_transformers, "mamba", "MambaForCausalLM", _DECODER, _TEXT_32),
          "quick"),
    _case("t5", partial(_transformers, "t5", "T5ForConditionalGeneration", _T5,
                        _source_and_target), "quick"),
)  # fmt: skip

# The networks of Nimble's paper that fit one image of their usual size, and two of today.
SCHEDULED: tuple[Case, ...] = (
    _case("resnet50", resnet50, "quick"),
    _case("inception_v3", partial(_torchvision, "inception_v3", 299, init_weights=False), "quick"),
    _case("googlenet", partial(_torchvision, "googlenet", 224, init_weights=False)),
    _case("mobilenet_v2", partial(_torchvision, "mobilenet_v2", 224), "quick"),
    _case("efficientnet_b0", partial(_torchvision, "efficientnet_b0", 224)),
    _case("densenet201", partial(_torchvision, "densenet201", 224)),
    _case("nasnet_a_mobile", partial(_own, nasnet_a_mobile, _images(1, 224)), "quick"),
    _case("nasnet_a_large", partial(_own, nasnet_a_large, _images(1, 331))),
    _case("darts", partial(_own, darts, _images(1, 224)), "quick"),
    _case("amoebanet", partial(_own, amoebanet, _images(1, 224))),
    _case("tiny_bert", tiny_bert, "quick"),
    _case("llama", partial(_transformers, "llama", "LlamaForCausalLM", _DECODER, _TEXT_32)),
    _case("mamba", partial(_transformers, "mamba", "MambaForCausalLM", _DECODER, _TEXT_32)),
)  # fmt: skip

TRAINING_STEPS: tuple[Case, ...] = (
    _case("lenet_step", partial(_own, LeNet, _images(16, 32, 1)), "quick", "training"),
    _case("resnet18_step", partial(_torchvision, "resnet18", 64, 4), "quick", "training"),
    _case("mobilenet_v3_step", partial(_torchvision, "mobilenet_v3_small", 64, 4), "training",
          "random"),
    _case("vit_tiny_step", partial(_timm, "vit_tiny_patch16_224", 64, 4, img_size=64),
          "training"),
    _case("lstm_loop_step", _lstm_loop, "training"),
    _case("bert_step", partial(_transformers, "bert", "BertModel", _SMALL,
                               _tokens(4, 32, _VOCABULARY)), "quick", "training", "random"),
    _case("gpt2_step", partial(_transformers, "gpt2", "GPT2LMHeadModel", _GPT2,
                               _tokens(4, 32, _VOCABULARY)), "training", "random"),
)  # fmt: skip
