"""The families of transformers, from configurations shrunk to tiny, with random weights.

Many rows share one shrinking: two layers, hidden size 64, four heads, a vocabulary of 256.
A row names only what its family calls otherwise. Rows of kind `DECODER_CACHED` are called
with a filled key-value cache, made anew for every call because the model writes to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from benchmarks.architectures.base import (
    WEIGHT_SEED,
    Architecture,
    Built,
    Call,
    Kind,
    integers,
    normal,
    seeded,
)

InputMaker = Callable[[int], Call]
_VOCAB, _LENGTH, _HIDDEN, _HEADS, _LAYERS = 256, 16, 64, 4, 2

# The names that most configurations share. A family that lacks one ignores it.
_TEXT: dict[str, Any] = {
    "vocab_size": _VOCAB,
    "hidden_size": _HIDDEN,
    "num_hidden_layers": _LAYERS,
    "num_attention_heads": _HEADS,
    "intermediate_size": 2 * _HIDDEN,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_GROUPED = {**_TEXT, "num_key_value_heads": 2}
_SEQ2SEQ: dict[str, Any] = {
    "vocab_size": _VOCAB,
    "d_model": _HIDDEN,
    "encoder_layers": _LAYERS,
    "decoder_layers": _LAYERS,
    "encoder_attention_heads": _HEADS,
    "decoder_attention_heads": _HEADS,
    "encoder_ffn_dim": 2 * _HIDDEN,
    "decoder_ffn_dim": 2 * _HIDDEN,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": 2,
}
_T5: dict[str, Any] = {
    "vocab_size": _VOCAB,
    "d_model": _HIDDEN,
    "d_kv": 16,
    "d_ff": 2 * _HIDDEN,
    "num_layers": _LAYERS,
    "num_decoder_layers": _LAYERS,
    "num_heads": _HEADS,
    "decoder_start_token_id": 0,
}
_VISION: dict[str, Any] = {
    "hidden_size": _HIDDEN,
    "num_hidden_layers": _LAYERS,
    "num_attention_heads": _HEADS,
    "intermediate_size": 2 * _HIDDEN,
    "image_size": 64,
    "patch_size": 16,
}
_EXPERTS = {**_GROUPED, "num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2}
_SPEECH: dict[str, Any] = {
    **_TEXT,
    "vocab_size": 32,
    "conv_dim": (32, 32, 32),
    "conv_stride": (5, 2, 2),
    "conv_kernel": (10, 3, 2),
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """One family: its configuration type, its class, what is overridden, what it is fed."""

    model_type: str
    kind: Kind
    class_name: str
    config: dict[str, Any]
    inputs: InputMaker
    suffix: str = ""
    cached: bool = False
    extra: dict[str, Any] = field(default_factory=dict)


def tokens(seed: int) -> Call:
    """Return one sequence of token ids, none of them a special token."""
    return Call((), {"input_ids": integers(seed, 3, _VOCAB, 1, _LENGTH)})


def _masked_tokens(seed: int) -> Call:
    mask = torch.ones(2, _LENGTH, dtype=torch.int64)
    mask[1, 10:] = 0
    return Call((), {"input_ids": integers(seed, 3, _VOCAB, 2, _LENGTH), "attention_mask": mask})


def _plain_tokens(seed: int) -> Call:
    return Call((), {**tokens(seed).kwargs, "use_cache": False})


def _long_tokens(length: int) -> InputMaker:
    def make_inputs(seed: int) -> Call:
        return Call((), {"input_ids": integers(seed, 3, _VOCAB, 1, length)})

    return make_inputs


def _source_and_target(seed: int) -> Call:
    target = integers(seed + 1_000, 3, _VOCAB, 1, 8)
    return Call((), {**tokens(seed).kwargs, "decoder_input_ids": target})


def _source_and_target_uncached(seed: int) -> Call:
    return Call((), {**_source_and_target(seed).kwargs, "use_cache": False})


def _pixels(size: int = 64, channels: int = 3) -> InputMaker:
    def make_inputs(seed: int) -> Call:
        return Call((), {"pixel_values": normal(seed, 1, channels, size, size)})

    return make_inputs


def _video(frames: int = 4, size: int = 32) -> InputMaker:
    def make_inputs(seed: int) -> Call:
        return Call((), {"pixel_values": normal(seed, 1, frames, 3, size, size)})

    return make_inputs


def _waveform(seed: int) -> Call:
    return Call((), {"input_values": normal(seed, 1, 2_000)})


def _text_and_pixels(seed: int) -> Call:
    kwargs = {**tokens(seed).kwargs, **_pixels()(seed).kwargs}
    return Call((), {**kwargs, "attention_mask": torch.ones(1, _LENGTH, dtype=torch.int64)})


def _boxed_tokens(seed: int) -> Call:
    low = integers(seed + 2_000, 0, 50, 1, _LENGTH, 2)
    return Call((), {**tokens(seed).kwargs, "bbox": torch.cat((low, low + 20), dim=-1)})


def _row(
    model_type: str,
    kind: Kind,
    class_name: str,
    config: dict[str, Any],
    inputs: InputMaker,
    **extra: Any,
) -> _Row:
    return _Row(
        model_type=model_type,
        kind=kind,
        class_name=class_name,
        config={**config, **extra},
        inputs=inputs,
    )


def _cached(model_type: str, class_name: str, config: dict[str, Any], **extra: Any) -> _Row:
    return _Row(
        model_type=model_type,
        kind=Kind.DECODER_CACHED,
        class_name=class_name,
        config={**config, **extra},
        inputs=tokens,
        suffix="-cached",
        cached=True,
    )


_ENC, _DEC, _MOE, _SSM = Kind.ENCODER, Kind.DECODER, Kind.MIXTURE_OF_EXPERTS, Kind.STATE_SPACE
_S2S, _VIT, _MM = Kind.ENCODER_DECODER, Kind.VISION_TRANSFORMER, Kind.MULTIMODAL
_GPT2 = {**_TEXT, "n_embd": _HIDDEN, "n_layer": _LAYERS, "n_head": _HEADS, "n_positions": 128}
_MLA = {
    **_GROUPED,
    "num_key_value_heads": _HEADS,
    "q_lora_rank": 32,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 16,
}

_ENCODERS: tuple[_Row, ...] = (
    _row("bert", _ENC, "BertModel", _TEXT, _masked_tokens),
    _row("roberta", _ENC, "RobertaForMaskedLM", _TEXT, _masked_tokens),
    _row("albert", _ENC, "AlbertModel", _TEXT, _masked_tokens, embedding_size=32),
    _row(
        "distilbert",
        _ENC,
        "DistilBertModel",
        {},
        _masked_tokens,
        vocab_size=_VOCAB,
        dim=_HIDDEN,
        n_layers=_LAYERS,
        n_heads=_HEADS,
        hidden_dim=128,
    ),
    _row("electra", _ENC, "ElectraModel", _TEXT, tokens, embedding_size=32),
    _row(
        "deberta",
        _ENC,
        "DebertaModel",
        _TEXT,
        tokens,
        relative_attention=True,
        pos_att_type=["c2p", "p2c"],
    ),
    _row(
        "deberta-v2",
        _ENC,
        "DebertaV2Model",
        _TEXT,
        tokens,
        relative_attention=True,
        pos_att_type=["c2p", "p2c"],
    ),
    _row("mpnet", _ENC, "MPNetModel", _TEXT, tokens),
    _row(
        "mobilebert",
        _ENC,
        "MobileBertModel",
        _TEXT,
        tokens,
        intra_bottleneck_size=32,
        embedding_size=32,
        num_feedforward_networks=2,
        true_hidden_size=32,
    ),
    _row("convbert", _ENC, "ConvBertModel", _TEXT, tokens, embedding_size=64),
    _row(
        "funnel",
        _ENC,
        "FunnelModel",
        {},
        tokens,
        vocab_size=_VOCAB,
        d_model=_HIDDEN,
        n_head=_HEADS,
        d_head=16,
        d_inner=128,
        block_sizes=[1, 1],
        num_decoder_layers=1,
    ),
    _row("fnet", _ENC, "FNetModel", _TEXT, tokens),
    _row(
        "big_bird", _ENC, "BigBirdModel", _TEXT, _long_tokens(96), block_size=8, num_random_blocks=1
    ),
    _row("longformer", _ENC, "LongformerModel", _TEXT, _long_tokens(64), attention_window=[16, 16]),
    _row(
        "nystromformer",
        _ENC,
        "NystromformerModel",
        _TEXT,
        tokens,
        num_landmarks=4,
        segment_means_seq_len=_LENGTH,
    ),
    _row(
        "xlnet",
        _ENC,
        "XLNetModel",
        {},
        tokens,
        vocab_size=_VOCAB,
        d_model=_HIDDEN,
        n_layer=_LAYERS,
        n_head=_HEADS,
        d_inner=128,
    ),
    _row(
        "xlm",
        _ENC,
        "XLMModel",
        {},
        tokens,
        vocab_size=_VOCAB,
        emb_dim=_HIDDEN,
        n_layers=_LAYERS,
        n_heads=_HEADS,
    ),
    _row(
        "rembert",
        _ENC,
        "RemBertModel",
        _TEXT,
        tokens,
        input_embedding_size=32,
        output_embedding_size=32,
    ),
    _row("roformer", _ENC, "RoFormerModel", _TEXT, tokens, embedding_size=64),
    _row("squeezebert", _ENC, "SqueezeBertModel", _TEXT, tokens, embedding_size=64),
    _row("ibert", _ENC, "IBertModel", _TEXT, tokens, quant_mode=True),
    _row("megatron-bert", _ENC, "MegatronBertModel", _TEXT, tokens),
    _row("layoutlm", _ENC, "LayoutLMModel", _TEXT, _boxed_tokens, max_2d_position_embeddings=128),
    _row(
        "lilt",
        _ENC,
        "LiltModel",
        _TEXT,
        _boxed_tokens,
        max_2d_position_embeddings=128,
        hidden_size=96,
    ),
    _row("tapas", _ENC, "TapasModel", _TEXT, tokens),
    _row(
        "canine",
        _ENC,
        "CanineModel",
        _TEXT,
        _long_tokens(32),
        num_hash_buckets=64,
        num_hash_functions=4,
        local_transformer_stride=8,
        downsampling_rate=4,
    ),
    _row("esm", _ENC, "EsmModel", _TEXT, tokens, position_embedding_type="rotary"),
    _row(
        "modernbert",
        _ENC,
        "ModernBertModel",
        _TEXT,
        tokens,
        local_attention=8,
        cls_token_id=1,
        sep_token_id=2,
    ),
    _row(
        "reformer",
        _ENC,
        "ReformerModel",
        {},
        tokens,
        vocab_size=_VOCAB,
        hidden_size=_HIDDEN,
        attention_head_size=16,
        num_attention_heads=_HEADS,
        feed_forward_size=128,
        attn_layers=["local", "lsh"],
        axial_pos_shape=[4, 4],
        axial_pos_embds_dim=[32, 32],
        lsh_attn_chunk_length=4,
        local_attn_chunk_length=4,
        num_buckets=2,
        hash_seed=0,
        is_decoder=False,
    ),
    _row("luke", _ENC, "LukeModel", _TEXT, tokens, entity_vocab_size=32, entity_emb_size=32),
)

_DECODERS: tuple[_Row, ...] = (
    _row("gpt2", _DEC, "GPT2LMHeadModel", _GPT2, _plain_tokens),
    _row(
        "gpt_neo",
        _DEC,
        "GPTNeoForCausalLM",
        _TEXT,
        _plain_tokens,
        num_layers=2,
        num_heads=4,
        attention_types=[[["global", "local"], 1]],
        window_size=8,
    ),
    _row("gpt_neox", _DEC, "GPTNeoXForCausalLM", _TEXT, _plain_tokens),
    _row("gptj", _DEC, "GPTJForCausalLM", _GPT2, _plain_tokens, rotary_dim=8),
    _row("codegen", _DEC, "CodeGenForCausalLM", _GPT2, _plain_tokens, rotary_dim=8),
    _row(
        "opt",
        _DEC,
        "OPTForCausalLM",
        _TEXT,
        _plain_tokens,
        ffn_dim=128,
        word_embed_proj_dim=_HIDDEN,
    ),
    _row("bloom", _DEC, "BloomForCausalLM", _TEXT, _plain_tokens, n_layer=2, n_head=4),
    _row("ctrl", _DEC, "CTRLLMHeadModel", _GPT2, _plain_tokens, dff=128),
    _row("openai-gpt", _DEC, "OpenAIGPTLMHeadModel", _GPT2, tokens),
    _row("llama", _DEC, "LlamaForCausalLM", _GROUPED, _plain_tokens),
    _row("mistral", _DEC, "MistralForCausalLM", _GROUPED, _plain_tokens, sliding_window=8),
    _row("qwen2", _DEC, "Qwen2ForCausalLM", _GROUPED, _plain_tokens),
    _row("qwen3", _DEC, "Qwen3ForCausalLM", _GROUPED, _plain_tokens, head_dim=16),
    _row("gemma", _DEC, "GemmaForCausalLM", _GROUPED, _plain_tokens, head_dim=16),
    _row(
        "gemma2", _DEC, "Gemma2ForCausalLM", _GROUPED, _plain_tokens, head_dim=16, sliding_window=8
    ),
    _row(
        "gemma3_text",
        _DEC,
        "Gemma3ForCausalLM",
        _GROUPED,
        _plain_tokens,
        head_dim=16,
        sliding_window=8,
    ),
    _row("phi", _DEC, "PhiForCausalLM", _TEXT, _plain_tokens),
    _row("phi3", _DEC, "Phi3ForCausalLM", _GROUPED, _plain_tokens),
    _row("falcon", _DEC, "FalconForCausalLM", _TEXT, _plain_tokens, alibi=True),
    _row(
        "mpt",
        _DEC,
        "MptForCausalLM",
        {},
        _plain_tokens,
        vocab_size=_VOCAB,
        d_model=_HIDDEN,
        n_heads=_HEADS,
        n_layers=_LAYERS,
        max_seq_len=128,
    ),
    _row("stablelm", _DEC, "StableLmForCausalLM", _GROUPED, _plain_tokens),
    _row("starcoder2", _DEC, "Starcoder2ForCausalLM", _GROUPED, _plain_tokens),
    _row("olmo2", _DEC, "Olmo2ForCausalLM", _GROUPED, _plain_tokens),
    _row("cohere", _DEC, "CohereForCausalLM", _GROUPED, _plain_tokens),
    _row("persimmon", _DEC, "PersimmonForCausalLM", _TEXT, _plain_tokens),
    _row("glm", _DEC, "GlmForCausalLM", _GROUPED, _plain_tokens, head_dim=16),
    _row("granite", _DEC, "GraniteForCausalLM", _GROUPED, _plain_tokens),
    _row("nemotron", _DEC, "NemotronForCausalLM", _GROUPED, _plain_tokens),
    _row("biogpt", _DEC, "BioGptForCausalLM", _TEXT, _plain_tokens),
    _row(
        "xglm",
        _DEC,
        "XGLMForCausalLM",
        _TEXT,
        _plain_tokens,
        d_model=_HIDDEN,
        ffn_dim=128,
        num_layers=2,
        attention_heads=4,
    ),
    _row("gpt_bigcode", _DEC, "GPTBigCodeForCausalLM", _GPT2, _plain_tokens),
    _row("smollm3", _DEC, "SmolLM3ForCausalLM", _GROUPED, _plain_tokens),
    _row(
        "deepseek_v2",
        _MOE,
        "DeepseekV2ForCausalLM",
        _MLA,
        _plain_tokens,
        moe_intermediate_size=32,
        n_routed_experts=4,
        num_experts_per_tok=2,
        first_k_dense_replace=1,
        n_group=1,
        topk_group=1,
    ),
)

_DECODERS_CACHED: tuple[_Row, ...] = (
    _cached("gpt2", "GPT2LMHeadModel", _GPT2),
    _cached("opt", "OPTForCausalLM", _TEXT, ffn_dim=128, word_embed_proj_dim=_HIDDEN),
    _cached("gpt_neox", "GPTNeoXForCausalLM", _TEXT),
    _cached("llama", "LlamaForCausalLM", _GROUPED),
    _cached("qwen3", "Qwen3ForCausalLM", _GROUPED, head_dim=16),
    _cached("phi3", "Phi3ForCausalLM", _GROUPED),
    _cached("gemma2", "Gemma2ForCausalLM", _GROUPED, head_dim=16, sliding_window=64),
    _cached("mixtral", "MixtralForCausalLM", _EXPERTS),
)

_EXPERT_MODELS: tuple[_Row, ...] = (
    _row("mixtral", _MOE, "MixtralForCausalLM", _EXPERTS, _plain_tokens),
    _row(
        "qwen2_moe",
        _MOE,
        "Qwen2MoeForCausalLM",
        _EXPERTS,
        _plain_tokens,
        moe_intermediate_size=32,
        shared_expert_intermediate_size=32,
    ),
    _row(
        "qwen3_moe",
        _MOE,
        "Qwen3MoeForCausalLM",
        _EXPERTS,
        _plain_tokens,
        moe_intermediate_size=32,
        head_dim=16,
    ),
    _row("olmoe", _MOE, "OlmoeForCausalLM", _EXPERTS, _plain_tokens),
    _row("phimoe", _MOE, "PhimoeForCausalLM", _EXPERTS, _plain_tokens),
    _row("granitemoe", _MOE, "GraniteMoeForCausalLM", _EXPERTS, _plain_tokens),
    _row("jetmoe", _MOE, "JetMoeForCausalLM", _EXPERTS, _plain_tokens, kv_channels=16),
    _row("gpt_oss", _MOE, "GptOssForCausalLM", _EXPERTS, _plain_tokens, head_dim=16),
    _row(
        "deepseek_v3",
        _MOE,
        "DeepseekV3ForCausalLM",
        _MLA,
        _plain_tokens,
        moe_intermediate_size=32,
        n_routed_experts=4,
        num_experts_per_tok=2,
        n_group=1,
        topk_group=1,
        first_k_dense_replace=1,
    ),
    _row(
        "llama4_text",
        _MOE,
        "Llama4ForCausalLM",
        _EXPERTS,
        _plain_tokens,
        head_dim=16,
        intermediate_size_mlp=128,
        attention_chunk_size=8,
    ),
    _row(
        "switch_transformers",
        _MOE,
        "SwitchTransformersModel",
        _T5,
        _source_and_target,
        num_experts=4,
        num_sparse_encoder_layers=1,
        num_sparse_decoder_layers=1,
    ),
    _row(
        "nllb-moe",
        _MOE,
        "NllbMoeModel",
        _SEQ2SEQ,
        _source_and_target,
        num_experts=4,
        encoder_sparse_step=2,
        decoder_sparse_step=2,
        expert_capacity=8,
    ),
)

_STATE_SPACES: tuple[_Row, ...] = (
    _row("mamba", _SSM, "MambaForCausalLM", _TEXT, _plain_tokens, state_size=8),
    _row(
        "mamba2",
        _SSM,
        "Mamba2ForCausalLM",
        _TEXT,
        _plain_tokens,
        state_size=8,
        num_heads=8,
        head_dim=16,
        n_groups=1,
        chunk_size=8,
    ),
    _row("falcon_mamba", _SSM, "FalconMambaForCausalLM", _TEXT, _plain_tokens, state_size=8),
    _row("rwkv", _SSM, "RwkvForCausalLM", _TEXT, _plain_tokens, attention_hidden_size=_HIDDEN),
    _row(
        "recurrent_gemma",
        _SSM,
        "RecurrentGemmaForCausalLM",
        _TEXT,
        _plain_tokens,
        lru_width=_HIDDEN,
        attention_window_size=8,
        num_key_value_heads=1,
        num_hidden_layers=3,
    ),
    _row(
        "jamba",
        _SSM,
        "JambaForCausalLM",
        _GROUPED,
        _plain_tokens,
        num_experts=2,
        use_mamba_kernels=False,
        mamba_d_state=8,
        attn_layer_period=2,
        attn_layer_offset=1,
        mamba_dt_rank=8,
        expert_layer_period=2,
        expert_layer_offset=1,
    ),
    _row(
        "zamba2",
        _SSM,
        "Zamba2ForCausalLM",
        _TEXT,
        _plain_tokens,
        use_mamba_kernels=False,
        mamba_d_state=8,
        mamba_headdim=16,
        n_mamba_heads=8,
        layers_block_type=["mamba", "hybrid"],
        num_mem_blocks=1,
        chunk_size=8,
        mamba_ngroups=1,
        use_mem_rope=False,
    ),
    _row(
        "bamba",
        _SSM,
        "BambaForCausalLM",
        _GROUPED,
        _plain_tokens,
        attn_layer_indices=[1],
        mamba_n_heads=8,
        mamba_d_head=16,
        mamba_d_state=8,
        mamba_n_groups=1,
        mamba_chunk_size=8,
    ),
    _row(
        "lfm2",
        _SSM,
        "Lfm2ForCausalLM",
        _GROUPED,
        _plain_tokens,
        layer_types=["conv", "full_attention"],
        conv_L_cache=3,
    ),
    _row(
        "xlstm",
        _SSM,
        "xLSTMForCausalLM",
        {},
        _plain_tokens,
        vocab_size=_VOCAB,
        hidden_size=_HIDDEN,
        num_hidden_layers=2,
        num_blocks=2,
        num_heads=4,
        chunk_size=8,
    ),
    _row(
        "qwen3_next",
        _SSM,
        "Qwen3NextForCausalLM",
        _EXPERTS,
        _plain_tokens,
        head_dim=16,
        layer_types=["linear_attention", "full_attention"],
        moe_intermediate_size=32,
        shared_expert_intermediate_size=32,
        linear_num_key_heads=2,
        linear_num_value_heads=2,
        linear_key_head_dim=16,
        linear_value_head_dim=16,
    ),
    _row(
        "falcon_h1",
        _SSM,
        "FalconH1ForCausalLM",
        _GROUPED,
        _plain_tokens,
        mamba_d_ssm=128,
        mamba_n_heads=8,
        mamba_d_head=16,
        mamba_d_state=8,
        mamba_chunk_size=8,
    ),
    _row(
        "minimax",
        _SSM,
        "MiniMaxForCausalLM",
        _EXPERTS,
        _plain_tokens,
        head_dim=16,
        layer_types=["linear_attention", "full_attention"],
        block_size=8,
    ),
)

_SEQ2SEQ_MODELS: tuple[_Row, ...] = (
    _row("t5", _S2S, "T5ForConditionalGeneration", _T5, _source_and_target),
    _row("umt5", _S2S, "UMT5Model", _T5, _source_and_target),
    _row(
        "longt5",
        _S2S,
        "LongT5Model",
        _T5,
        _source_and_target_uncached,
        local_radius=4,
        encoder_attention_type="transient-global",
        global_block_size=4,
    ),
    _row("bart", _S2S, "BartForConditionalGeneration", _SEQ2SEQ, _source_and_target),
    _row("mbart", _S2S, "MBartModel", _SEQ2SEQ, _source_and_target_uncached),
    _row("pegasus", _S2S, "PegasusModel", _SEQ2SEQ, _source_and_target_uncached),
    _row("marian", _S2S, "MarianMTModel", _SEQ2SEQ, _source_and_target),
    _row("blenderbot", _S2S, "BlenderbotModel", _SEQ2SEQ, _source_and_target_uncached),
    _row("m2m_100", _S2S, "M2M100Model", _SEQ2SEQ, _source_and_target),
    _row(
        "led",
        _S2S,
        "LEDModel",
        _SEQ2SEQ,
        _source_and_target_uncached,
        attention_window=8,
        max_encoder_position_embeddings=128,
        max_decoder_position_embeddings=128,
    ),
    _row(
        "prophetnet",
        _S2S,
        "ProphetNetModel",
        {},
        _source_and_target_uncached,
        vocab_size=_VOCAB,
        hidden_size=_HIDDEN,
        num_encoder_layers=1,
        num_decoder_layers=1,
        num_encoder_attention_heads=4,
        num_decoder_attention_heads=4,
        encoder_ffn_dim=128,
        decoder_ffn_dim=128,
        decoder_start_token_id=2,
    ),
    _row(
        "fsmt",
        _S2S,
        "FSMTModel",
        _SEQ2SEQ,
        _source_and_target_uncached,
        langs=["en", "de"],
        src_vocab_size=_VOCAB,
        tgt_vocab_size=_VOCAB,
    ),
    _row("plbart", _S2S, "PLBartModel", _SEQ2SEQ, _source_and_target_uncached),
)


def _whisper(seed: int) -> Call:
    ids = integers(seed + 1_000, 3, _VOCAB, 1, 8)
    return Call((), {"input_features": normal(seed, 1, 16, 64), "decoder_input_ids": ids})


def _filter_banks(seed: int) -> Call:
    ids = integers(seed + 1_000, 3, _VOCAB, 1, 8)
    return Call((), {"input_features": normal(seed, 1, 64, 16), "decoder_input_ids": ids})


def _spectrogram(seed: int) -> Call:
    return Call((), {"input_values": normal(seed, 1, 64, 32)})


def _codec_waveform(seed: int) -> Call:
    return Call((), {"input_values": normal(seed, 1, 1, 1_280)})


_AUDIO_MODELS: tuple[_Row, ...] = (
    _row("wav2vec2", Kind.AUDIO, "Wav2Vec2Model", _SPEECH, _waveform),
    _row("hubert", Kind.AUDIO, "HubertModel", _SPEECH, _waveform),
    _row("wavlm", Kind.AUDIO, "WavLMModel", _SPEECH, _waveform),
    _row("sew", Kind.AUDIO, "SEWModel", _SPEECH, _waveform, squeeze_factor=2),
    _row(
        "whisper",
        Kind.AUDIO,
        "WhisperModel",
        _SEQ2SEQ,
        _whisper,
        num_mel_bins=16,
        max_source_positions=32,
        max_target_positions=32,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    ),
    _row(
        "speech_to_text",
        Kind.AUDIO,
        "Speech2TextModel",
        _SEQ2SEQ,
        _filter_banks,
        input_feat_per_channel=16,
        conv_channels=32,
        max_source_positions=64,
        max_target_positions=32,
    ),
    _row(
        "audio-spectrogram-transformer",
        Kind.AUDIO,
        "ASTModel",
        _VISION,
        _spectrogram,
        max_length=64,
        num_mel_bins=32,
        frequency_stride=8,
        time_stride=8,
    ),
    _row(
        "encodec",
        Kind.AUDIO,
        "EncodecModel",
        {},
        _codec_waveform,
        num_filters=4,
        hidden_size=32,
        codebook_dim=32,
        codebook_size=64,
        num_lstm_layers=1,
    ),
    _row(
        "mimi",
        Kind.AUDIO,
        "MimiModel",
        _GROUPED,
        _codec_waveform,
        num_filters=4,
        head_dim=16,
        codebook_dim=32,
        codebook_size=64,
        vector_quantization_hidden_dimension=32,
        num_quantizers=4,
        num_semantic_quantizers=1,
        upsample_groups=_HIDDEN,
    ),
)

_HIERARCHICAL = {"embed_dim": 32, "depths": [1, 1], "num_heads": [2, 4], "image_size": 64}
_VISION_MODELS: tuple[_Row, ...] = (
    _row("vit", _VIT, "ViTModel", _VISION, _pixels()),
    _row("deit", _VIT, "DeiTModel", _VISION, _pixels()),
    _row("beit", _VIT, "BeitModel", _VISION, _pixels(), use_relative_position_bias=True),
    _row("dinov2", _VIT, "Dinov2Model", _VISION, _pixels()),
    _row("dinov3_vit", _VIT, "DINOv3ViTModel", _VISION, _pixels()),
    _row("ijepa", _VIT, "IJepaModel", _VISION, _pixels()),
    _row("swin", _VIT, "SwinModel", _HIERARCHICAL, _pixels(), patch_size=4, window_size=4),
    _row("swinv2", _VIT, "Swinv2Model", _HIERARCHICAL, _pixels(), patch_size=4, window_size=4),
    _row(
        "convnext",
        Kind.CONVOLUTIONAL,
        "ConvNextModel",
        {},
        _pixels(),
        hidden_sizes=[16, 32, 32, 64],
        depths=[1, 1, 1, 1],
    ),
    _row(
        "resnet",
        Kind.CONVOLUTIONAL,
        "ResNetForImageClassification",
        {},
        _pixels(),
        embedding_size=16,
        hidden_sizes=[16, 32, 32, 64],
        depths=[1, 1, 1, 1],
    ),
    _row(
        "cvt",
        Kind.VISION_MIXED,
        "CvtModel",
        {},
        _pixels(),
        embed_dim=[16, 32, 32],
        num_heads=[1, 2, 4],
        depth=[1, 2, 3],
    ),
    _row(
        "poolformer",
        Kind.VISION_MIXED,
        "PoolFormerModel",
        {},
        _pixels(),
        hidden_sizes=[16, 32, 32, 64],
        depths=[1, 1, 1, 1],
    ),
    _row(
        "mobilevit",
        Kind.VISION_MIXED,
        "MobileViTModel",
        {},
        _pixels(),
        hidden_sizes=[24, 32, 48],
        neck_hidden_sizes=[8, 16, 24, 32, 40, 48, 64],
        num_attention_heads=4,
        image_size=64,
    ),
    _row(
        "segformer",
        Kind.DENSE_PREDICTION,
        "SegformerForSemanticSegmentation",
        {},
        _pixels(),
        num_attention_heads=[1, 2, 2, 4],
        hidden_sizes=[16, 32, 32, 64],
        depths=[1, 1, 1, 1],
        decoder_hidden_size=32,
    ),
    _row(
        "dpt",
        Kind.DENSE_PREDICTION,
        "DPTForDepthEstimation",
        _VISION,
        _pixels(),
        num_hidden_layers=4,
        backbone_out_indices=[0, 1, 2, 3],
        is_hybrid=False,
        neck_hidden_sizes=[16, 16, 32, 32],
        fusion_hidden_size=16,
    ),
    _row(
        "glpn",
        Kind.DENSE_PREDICTION,
        "GLPNForDepthEstimation",
        {},
        _pixels(),
        num_attention_heads=[1, 2, 2, 4],
        hidden_sizes=[16, 32, 32, 64],
        depths=[1, 1, 1, 1],
        decoder_hidden_size=16,
    ),
    _row(
        "swin2sr",
        Kind.DENSE_PREDICTION,
        "Swin2SRForImageSuperResolution",
        _HIERARCHICAL,
        _pixels(32),
        image_size=32,
        patch_size=1,
        window_size=8,
    ),
    _row(
        "yolos",
        Kind.DETECTION,
        "YolosForObjectDetection",
        _VISION,
        _pixels(),
        image_size=[64, 64],
        num_detection_tokens=8,
    ),
    _row("detr", Kind.DETECTION, "DetrForObjectDetection", _SEQ2SEQ, _pixels(), num_queries=8),
    _row(
        "deformable_detr",
        Kind.DETECTION,
        "DeformableDetrForObjectDetection",
        _SEQ2SEQ,
        _pixels(),
        num_queries=8,
    ),
    _row(
        "videomae",
        Kind.VIDEO,
        "VideoMAEModel",
        _VISION,
        _video(),
        image_size=32,
        patch_size=8,
        num_frames=4,
        tubelet_size=2,
    ),
    _row(
        "timesformer",
        Kind.VIDEO,
        "TimesformerModel",
        _VISION,
        _video(),
        image_size=32,
        patch_size=8,
        num_frames=4,
    ),
    _row(
        "vivit",
        Kind.VIDEO,
        "VivitModel",
        _VISION,
        _video(),
        image_size=32,
        num_frames=4,
        tubelet_size=[2, 8, 8],
    ),
)

_CLIP_TEXT = {k: v for k, v in _TEXT.items() if not k.endswith("token_id")}
_TWO_TOWERS = {"text_config": _CLIP_TEXT, "vision_config": _VISION, "projection_dim": 32}


def _regions(seed: int) -> Call:
    visual = {"visual_feats": normal(seed, 1, 4, 32), "visual_pos": normal(seed + 1, 1, 4, 4)}
    return Call((), {**tokens(seed).kwargs, **visual})


def _visual_embeddings(seed: int) -> Call:
    return Call((), {**tokens(seed).kwargs, "visual_embeds": normal(seed, 1, 4, 32)})


def _image_tokens(seed: int) -> Call:
    ids = integers(seed, 3, 250, 1, _LENGTH)
    ids[0, 2:6] = 255
    return Call((), {"input_ids": ids, **_pixels(32)(seed).kwargs, "use_cache": False})


_MULTIMODAL_MODELS: tuple[_Row, ...] = (
    _row("clip", _MM, "CLIPModel", _TWO_TOWERS, _text_and_pixels),
    _row("siglip", _MM, "SiglipModel", _TWO_TOWERS, _text_and_pixels),
    _row("blip", _MM, "BlipModel", _TWO_TOWERS, _text_and_pixels),
    _row("vilt", _MM, "ViltModel", {**_TEXT, **_VISION}, _text_and_pixels),
    _row("git", _MM, "GitModel", _TEXT, _text_and_pixels, vision_config=_VISION),
    _row(
        "lxmert",
        _MM,
        "LxmertModel",
        _TEXT,
        _regions,
        l_layers=1,
        x_layers=1,
        r_layers=1,
        visual_feat_dim=32,
    ),
    _row("visual_bert", _MM, "VisualBertModel", _TEXT, _visual_embeddings, visual_embedding_dim=32),
    _row(
        "llava",
        _MM,
        "LlavaForConditionalGeneration",
        {},
        _image_tokens,
        text_config={"model_type": "llama", **_GROUPED},
        vision_config={"model_type": "clip_vision_model", **_VISION, "image_size": 32},
        image_token_index=255,
        vision_feature_layer=-1,
    ),
)


def _past_values(seed: int) -> Call:
    return Call((), {"past_values": normal(seed, 2, 32, 3)})


def _forecast(seed: int) -> Call:
    known = {
        "past_values": normal(seed, 2, 15),
        "past_observed_mask": torch.ones(2, 15),
        "past_time_features": normal(seed + 1, 2, 15, 2),
    }
    future = {
        "future_values": normal(seed + 2, 2, 4),
        "future_time_features": normal(seed + 3, 2, 4, 2),
    }
    return Call((), {**known, **future})


def _trajectory(seed: int) -> Call:
    return Call(
        (),
        {
            "states": normal(seed, 1, 5, 6),
            "actions": normal(seed + 1, 1, 5, 3),
            "rewards": normal(seed + 2, 1, 5, 1),
            "returns_to_go": normal(seed + 3, 1, 5, 1),
            "timesteps": torch.arange(5).unsqueeze(0),
            "attention_mask": torch.ones(1, 5),
        },
    )


_FORECAST = {
    **{k: v for k, v in _SEQ2SEQ.items() if not k.endswith("token_id")},
    "d_model": 16,
    "prediction_length": 4,
    "context_length": 8,
    "num_time_features": 2,
    "lags_sequence": [1, 2, 7],
}
_SERIES_MODELS: tuple[_Row, ...] = (
    _row(
        "time_series_transformer",
        Kind.TIME_SERIES,
        "TimeSeriesTransformerModel",
        _FORECAST,
        _forecast,
    ),
    _row("informer", Kind.TIME_SERIES, "InformerModel", _FORECAST, _forecast),
    _row(
        "autoformer",
        Kind.TIME_SERIES,
        "AutoformerModel",
        _FORECAST,
        _forecast,
        moving_average=5,
        label_length=4,
    ),
    _row(
        "patchtst",
        Kind.TIME_SERIES,
        "PatchTSTModel",
        _SEQ2SEQ,
        _past_values,
        num_input_channels=3,
        context_length=32,
        patch_length=8,
        patch_stride=8,
        num_hidden_layers=2,
        num_attention_heads=4,
        ffn_dim=64,
    ),
    _row(
        "patchtsmixer",
        Kind.TIME_SERIES,
        "PatchTSMixerModel",
        {},
        _past_values,
        context_length=32,
        patch_length=8,
        patch_stride=8,
        num_input_channels=3,
        d_model=16,
        num_layers=2,
    ),
    _row(
        "decision_transformer",
        Kind.TIME_SERIES,
        "DecisionTransformerModel",
        _GPT2,
        _trajectory,
        state_dim=6,
        act_dim=3,
        max_ep_len=64,
    ),
)

_ROWS = (
    *_ENCODERS,
    *_DECODERS,
    *_DECODERS_CACHED,
    *_EXPERT_MODELS,
    *_STATE_SPACES,
    *_SEQ2SEQ_MODELS,
    *_AUDIO_MODELS,
    *_VISION_MODELS,
    *_MULTIMODAL_MODELS,
    *_SERIES_MODELS,
)


def _with_cache(config: Any, seed: int) -> Call:
    """Return one new token and a cache that already holds eight."""
    from transformers import DynamicCache

    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    cache = DynamicCache(config=config)
    for layer in range(text.num_hidden_layers):
        keys, values = normal(seed + layer, 2, 1, heads, 8, width)
        cache.update(keys, values, layer)
    ids = integers(seed, 3, _VOCAB, 1, 1)
    return Call((), {"input_ids": ids, "past_key_values": cache, "use_cache": True})


def _build(row: _Row) -> Built:
    import transformers

    config = transformers.CONFIG_MAPPING[row.model_type](**row.config)
    with seeded(WEIGHT_SEED):
        model = getattr(transformers, row.class_name)(config)
    inputs = partial(_with_cache, config) if row.cached else row.inputs
    return Built(model.eval(), inputs)


TRANSFORMERS: tuple[Architecture, ...] = tuple(
    Architecture(
        name=f"transformers/{row.model_type}{row.suffix}",
        library="transformers",
        family=row.model_type,
        kind=row.kind,
        variant=row.class_name,
        build=partial(_build, row),
    )
    for row in _ROWS
)
