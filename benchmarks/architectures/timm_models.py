"""The families of timm: one row per file of `timm.models`, its smallest member, shrunk."""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks.architectures.base import (
    WEIGHT_SEED,
    Architecture,
    Built,
    Kind,
    image_input,
    seeded,
)

_CNN, _VIT, _MIX = Kind.CONVOLUTIONAL, Kind.VISION_TRANSFORMER, Kind.VISION_MIXED
_TINY_VIT = {"depth": 2, "embed_dim": 96, "num_heads": 4}

# family (file of timm.models), kind, entry point, image size, overrides
_ROWS: tuple[tuple[str, Kind, str, int, dict[str, Any]], ...] = (
    ("beit", _VIT, "beit_base_patch16_224", 64, {"img_size": 64, **_TINY_VIT}),
    ("byoanet", _MIX, "halonet_h1", 256, {}),
    ("byobnet", _CNN, "mobileone_s1", 64, {}),
    ("cait", _VIT, "cait_xxs24_224", 64, {"img_size": 64, "depth": 3}),
    ("coat", _VIT, "coat_tiny", 64, {"img_size": 64}),
    ("convit", _VIT, "convit_tiny", 64, {"img_size": 64, "depth": 11}),
    ("convmixer", _CNN, "convmixer_768_32", 64, {}),
    ("convnext", _CNN, "convnext_atto", 64, {}),
    ("cpubone", _MIX, "cpubone_nano", 64, {}),
    ("crossvit", _VIT, "crossvit_tiny_240", 240, {}),
    ("csatv2", _MIX, "csatv2", 512, {}),
    ("cspnet", _CNN, "cs3darknet_focus_s", 64, {}),
    ("cspnext", _CNN, "cspnext_tiny", 64, {}),
    ("davit", _VIT, "davit_tiny", 64, {"depths": (1, 1, 2, 1)}),
    ("deepseek_vit", _VIT, "deepseek_vit_412m", 126, _TINY_VIT),
    ("deit", _VIT, "deit_tiny_distilled_patch16_224", 64, {"img_size": 64, "depth": 4}),
    ("densenet", _CNN, "densenet121", 64, {}),
    ("dla", _CNN, "dla46_c", 64, {}),
    ("dpn", _CNN, "dpn48b", 64, {}),
    ("edgenext", _MIX, "edgenext_xx_small", 64, {}),
    ("efficientformer", _MIX, "efficientformer_l1", 224, {}),
    ("efficientformer_v2", _MIX, "efficientformerv2_s0", 224, {}),
    ("efficientnet", _CNN, "efficientnet_b0", 64, {}),
    ("efficientvim", Kind.STATE_SPACE, "efficientvim_m1", 224, {}),
    ("efficientvit_mit", _MIX, "efficientvit_b0", 64, {}),
    ("efficientvit_msra", _MIX, "efficientvit_m0", 224, {}),
    ("eva", _VIT, "eva02_tiny_patch14_224", 56, {"img_size": 56, "depth": 3}),
    ("fasternet", _CNN, "fasternet_t0", 64, {}),
    ("fastvit", _MIX, "fastvit_t8", 64, {}),
    ("focalnet", _MIX, "focalnet_tiny_srf", 64, {}),
    ("gcvit", _VIT, "gcvit_xxtiny", 224, {}),
    ("gemma4_vit", _VIT, "gemma4_vit_167m", 96, _TINY_VIT),
    ("ghostnet", _CNN, "ghostnet_050", 64, {}),
    ("hardcorenas", _CNN, "hardcorenas_b", 64, {}),
    ("hgnet", _CNN, "hgnetv2_b0", 64, {}),
    ("hiera", _VIT, "hiera_tiny_224", 224, {"stages": (1, 1, 2, 1)}),
    ("hieradet_sam2", _VIT, "sam2_hiera_tiny", 224, {"stages": (1, 1, 2, 1)}),
    ("hrnet", _CNN, "hrnet_w18_small", 64, {}),
    ("iformer", _MIX, "iformer_t", 64, {}),
    ("inception_next", _CNN, "inception_next_atto", 64, {}),
    ("inception_resnet_v2", _CNN, "inception_resnet_v2", 128, {}),
    ("inception_v3", _CNN, "inception_v3", 128, {}),
    ("inception_v4", _CNN, "inception_v4", 128, {}),
    ("lcnetv2", _CNN, "lcnetv2_small", 64, {}),
    ("levit", _MIX, "levit_128s", 224, {}),
    ("lowformer", _MIX, "lowformer_b0", 64, {}),
    ("mambaout", _CNN, "mambaout_femto", 64, {}),
    ("maxxvit", _MIX, "test_coatnet", 160, {}),
    ("metaformer", _MIX, "caformer_s18", 64, {}),
    ("mlp_mixer", _MIX, "mixer_s32_224", 64, {"img_size": 64}),
    ("mobilenetv3", _CNN, "mobilenetv3_small_050", 64, {}),
    ("mobilevit", _MIX, "mobilevit_xxs", 64, {}),
    ("mvitv2", _VIT, "mvitv2_tiny", 64, {"img_size": 64}),
    ("naflexvit", _VIT, "naflexvit_base_patch16_gap", 64, _TINY_VIT),
    ("nasnet", _CNN, "nasnetalarge", 96, {}),
    ("nest", _VIT, "nest_tiny_jx", 224, {}),
    ("nextvit", _MIX, "nextvit_small", 64, {}),
    ("nfnet", _CNN, "test_nfnet", 96, {}),
    ("pit", _VIT, "pit_ti_224", 224, {}),
    ("pnasnet", _CNN, "pnasnet5large", 96, {}),
    ("pvt_v2", _VIT, "pvt_v2_b0", 64, {}),
    ("qwen3_vit", _VIT, "qwen3_vit_88m", 96, _TINY_VIT),
    ("rdnet", _CNN, "rdnet_tiny", 64, {}),
    ("regnet", _CNN, "regnety_002", 64, {}),
    ("repghost", _CNN, "repghostnet_050", 64, {}),
    ("repvit", _CNN, "repvit_m0_9", 64, {}),
    ("res2net", _CNN, "res2net50_48w_2s", 64, {}),
    ("resnest", _CNN, "resnest14d", 64, {}),
    ("resnet", _CNN, "resnet18", 64, {}),
    ("resnetv2", _CNN, "resnetv2_18", 64, {}),
    ("rexnet", _CNN, "rexnet_100", 64, {}),
    ("selecsls", _CNN, "selecsls42", 64, {}),
    ("senet", _CNN, "legacy_seresnet18", 64, {}),
    ("sequencer", Kind.RECURRENT, "sequencer2d_s", 224, {"layers": (1, 1, 2, 1)}),
    ("shvit", _MIX, "shvit_s1", 64, {}),
    ("sknet", _CNN, "skresnet18", 64, {}),
    ("starnet", _CNN, "starnet_s050", 64, {}),
    ("swiftformer", _MIX, "swiftformer_xs", 224, {}),
    (
        "swin_transformer",
        _VIT,
        "swin_tiny_patch4_window7_224",
        112,
        {"img_size": 112, "depths": (2, 2, 2)},
    ),
    (
        "swin_transformer_v2",
        _VIT,
        "swinv2_tiny_window8_256",
        128,
        {"img_size": 128, "depths": (2, 2, 2)},
    ),
    (
        "swin_transformer_v2_cr",
        _VIT,
        "swinv2_cr_tiny_224",
        112,
        {"img_size": 112, "depths": (2, 2)},
    ),
    ("tiny_vit", _VIT, "tiny_vit_5m_224", 64, {}),
    ("tnt", _VIT, "tnt_s_patch16_224", 64, {"img_size": 64, "depth": 3}),
    ("tresnet", _CNN, "tresnet_m", 64, {}),
    ("twins", _VIT, "twins_svt_small", 64, {"img_size": 64, "depths": (1, 1, 2, 1)}),
    ("vgg", _CNN, "vgg11_bn", 32, {"num_classes": 10}),
    ("visformer", _MIX, "visformer_tiny", 224, {}),
    ("vision_transformer", _VIT, "vit_tiny_patch16_224", 64, {"img_size": 64}),
    ("vision_transformer_hybrid", _MIX, "vit_tiny_r_s16_p8_224", 64, {"img_size": 64}),
    ("vision_transformer_relpos", _VIT, "test_vit_relpos", 160, {}),
    ("vision_transformer_sam", _VIT, "samvit_base_patch16_224", 64, {"img_size": 64, **_TINY_VIT}),
    ("vitamin", _MIX, "vitamin_small_224", 64, {"img_size": 64}),
    ("volo", _VIT, "volo_d1_224", 64, {"img_size": 64}),
    ("vovnet", _CNN, "ese_vovnet19b_slim_dw", 64, {}),
    ("xception", _CNN, "legacy_xception", 96, {}),
    ("xception_aligned", _CNN, "xception41p", 64, {}),
    ("xcit", _VIT, "xcit_nano_12_p16_224", 64, {"img_size": 64, "depth": 3}),
)


def _build(entry_point: str, size: int, overrides: dict[str, Any]) -> Built:
    import timm

    with seeded(WEIGHT_SEED):
        model = timm.create_model(entry_point, pretrained=False, **overrides)
    return Built(model.eval(), image_input(size))


def _variant(entry_point: str, size: int, overrides: dict[str, Any]) -> str:
    shrunk = ", ".join(f"{key}={value}" for key, value in overrides.items())
    return f"{entry_point} @{size}" + (f" ({shrunk})" if shrunk else "")


TIMM: tuple[Architecture, ...] = tuple(
    Architecture(
        name=f"timm/{family}",
        library="timm",
        family=family,
        kind=kind,
        variant=_variant(entry_point, size, overrides),
        build=partial(_build, entry_point, size, overrides),
    )
    for family, kind, entry_point, size, overrides in _ROWS
)
