"""The families of torchvision: classification, segmentation, detection, video, optical flow."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from benchmarks.architectures.base import (
    WEIGHT_SEED,
    Architecture,
    Built,
    Call,
    Kind,
    image_input,
    normal,
    seeded,
)

_CNN, _VIT, _DENSE = Kind.CONVOLUTIONAL, Kind.VISION_TRANSFORMER, Kind.DENSE_PREDICTION
_NO_WEIGHTS = {"weights": None, "weights_backbone": None}


def _video(seed: int) -> Call:
    return Call((normal(seed, 1, 3, 8, 64, 64),), {})


def _long_video(seed: int) -> Call:
    return Call((normal(seed, 1, 3, 16, 224, 224),), {})


def _image_pair(seed: int) -> Call:
    pair = normal(seed, 2, 1, 3, 128, 128)
    return Call((pair[0].clone(), pair[1].clone()), {"num_flow_updates": 2})


def _image_list(size: int) -> Callable[[int], Call]:
    def make_inputs(seed: int) -> Call:
        return Call(([normal(seed, 3, size, size).sigmoid()],), {})

    return make_inputs


# family, kind, entry point, maker of inputs, overrides
_ROWS: tuple[tuple[str, Kind, str, Callable[[int], Call], dict[str, Any]], ...] = (
    ("alexnet", _CNN, "alexnet", image_input(64), {}),
    ("convnext", _CNN, "convnext_tiny", image_input(64), {}),
    ("densenet", _CNN, "densenet121", image_input(64), {}),
    ("efficientnet", _CNN, "efficientnet_b0", image_input(64), {}),
    ("googlenet", _CNN, "googlenet", image_input(64), {"init_weights": False}),
    ("inception", _CNN, "inception_v3", image_input(96), {"init_weights": False}),
    ("maxvit", _VIT, "maxvit_t", image_input(224), {}),
    ("mnasnet", _CNN, "mnasnet0_5", image_input(64), {}),
    ("mobilenet_v2", _CNN, "mobilenet_v2", image_input(64), {}),
    ("mobilenet_v3", _CNN, "mobilenet_v3_small", image_input(64), {}),
    ("regnet", _CNN, "regnet_y_400mf", image_input(64), {}),
    ("resnet", _CNN, "resnet50", image_input(64), {}),
    ("shufflenet_v2", _CNN, "shufflenet_v2_x0_5", image_input(64), {}),
    ("squeezenet", _CNN, "squeezenet1_1", image_input(64), {}),
    ("swin", _VIT, "swin_v2_t", image_input(64), {}),
    ("vgg", _CNN, "vgg11", image_input(32), {"num_classes": 10, "init_weights": False}),
    ("vit", _VIT, "vit_b_32", image_input(64), {"image_size": 64}),
    ("deeplabv3", _DENSE, "deeplabv3_mobilenet_v3_large", image_input(96), _NO_WEIGHTS),
    ("fcn", _DENSE, "fcn_resnet50", image_input(64), _NO_WEIGHTS),
    ("lraspp", _DENSE, "lraspp_mobilenet_v3_large", image_input(96), _NO_WEIGHTS),
    ("raft", _DENSE, "raft_small", _image_pair, {}),
    (
        "faster_rcnn",
        Kind.DETECTION,
        "fasterrcnn_mobilenet_v3_large_320_fpn",
        _image_list(96),
        {**_NO_WEIGHTS, "min_size": 96, "max_size": 128, "rpn_post_nms_top_n_test": 50},
    ),
    (
        "fcos",
        Kind.DETECTION,
        "fcos_resnet50_fpn",
        _image_list(96),
        {**_NO_WEIGHTS, "min_size": 96, "max_size": 128},
    ),
    (
        "retinanet",
        Kind.DETECTION,
        "retinanet_resnet50_fpn",
        _image_list(96),
        {**_NO_WEIGHTS, "min_size": 96, "max_size": 128},
    ),
    ("ssdlite", Kind.DETECTION, "ssdlite320_mobilenet_v3_large", _image_list(96), _NO_WEIGHTS),
    ("video_resnet", Kind.VIDEO, "r3d_18", _video, {}),
    ("s3d", Kind.VIDEO, "s3d", _long_video, {}),
    ("mvit", Kind.VIDEO, "mvit_v2_s", _video, {}),
    ("swin3d", Kind.VIDEO, "swin3d_t", _video, {}),
)


def _small_mvit() -> nn.Module:
    """Return MViT for small clips; torchvision's own entry points fix 16 frames of 224 x 224."""
    from torchvision.models.video.mvit import MSBlockConfig, MViT

    first = MSBlockConfig(1, 32, 32, [3, 3, 3], [3, 3, 3], [1, 1, 1], [1, 4, 4])
    second = MSBlockConfig(2, 32, 64, [3, 3, 3], [3, 3, 3], [1, 2, 2], [1, 2, 2])
    model: nn.Module = MViT(
        spatial_size=(64, 64),
        temporal_size=8,
        block_setting=[first, second],
        residual_pool=True,
        residual_with_cls_embed=False,
        rel_pos_embed=True,
        proj_after_attn=True,
        num_classes=10,
    )
    return model


def _build(
    entry_point: str, make_inputs: Callable[[int], Call], overrides: dict[str, Any]
) -> Built:
    import torchvision

    with seeded(WEIGHT_SEED):
        if entry_point == "mvit_v2_s":
            model = _small_mvit()
        else:
            model = torchvision.models.get_model(entry_point, **{"weights": None, **overrides})
    return Built(model.eval(), make_inputs)


TORCHVISION: tuple[Architecture, ...] = tuple(
    Architecture(
        name=f"torchvision/{family}",
        library="torchvision",
        family=family,
        kind=kind,
        variant=entry_point,
        build=partial(_build, entry_point, make_inputs, overrides),
    )
    for family, kind, entry_point, make_inputs, overrides in _ROWS
)
