"""Recipes made narrow, so that a CPU trains them in seconds or minutes."""

from typing import Any

from mmengine.config import ConfigDict

from swin_mm.recipes import settings_within

WIDTHS = ('in_channels', 'out_channels', 'feat_channels', 'conv_out_channels', 'proposal_feature_channel', 'embed_dims')
HIDDEN = ('fc_out_channels', 'feedforward_channels')
SMALLEST = dict(embed_dims=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2))
FOUND = 5  # objects of an image that the smallest models give


def narrow(
    model: ConfigDict, *, backbone: dict[str, Any], width: int, hidden: int, classes: int, queries: int
) -> dict[str, Any]:
    """Gives ``model`` for ``classes``, not pretrained, with the Swin of ``backbone`` and narrow layers behind it.

    Maps and tokens have ``width`` channels, except those of DINO; fully connected layers have ``hidden``. Models with
    queries have ``queries`` of them, find as many objects, and have an encoder of two layers.
    """
    is_dino = 'dn_cfg' in model
    width = 256 if is_dino else width  # the positions of DINO's decoder have no other
    sizes = {**dict.fromkeys(WIDTHS, width), **dict.fromkeys(HIDDEN, hidden), 'num_feats': width // 2}
    sizes.update(num_classes=classes, num_things_classes=classes, num_queries=queries, max_per_image=queries)
    for key, part in settings_within(model, 'model'):
        if key.startswith('model.backbone'):
            continue
        part.update({name: value for name, value in sizes.items() if isinstance(part.get(name), int)})
        if 'class_weight' in part:
            part.class_weight = [1.0] * classes + part.class_weight[-1:]
        if 'encoder' in part:
            part.encoder.num_layers = 2
    if is_dino:
        model.test_cfg.max_per_img = queries
    model.backbone.update(backbone, arch=None, init_cfg=None)
    (model.get('neck') or model.get('panoptic_head') or model.decode_head).in_channels = map_widths(model)
    model.data_preprocessor.pop('batch_augments', None)  # they fill up to 1024x1024
    return model.to_dict()


def map_widths(model: ConfigDict) -> list[int]:
    return [model.backbone.embed_dims * 2**i for i in model.backbone.get('out_indices', range(4))]


def smallest_detector(model: ConfigDict, classes: int = 2) -> dict[str, Any]:
    """Gives ``model`` as narrow as it goes; it finds the best ``FOUND`` objects of an image, of any score."""
    width = 64 if {'bbox_head', 'panoptic_head'} & model.keys() else 16  # 32 groups want two channels each
    for _, part in settings_within(model, 'model'):
        if 'num_groups' in part:
            part.num_groups = 8  # as many channels as the narrowest map has
    model = ConfigDict(narrow(model, backbone=SMALLEST, width=width, hidden=16, classes=classes, queries=FOUND))
    model.test_cfg.get('rcnn', model.test_cfg).update(score_thr=0.0, max_per_img=FOUND)
    return model.to_dict()


def smallest_segmentor(model: ConfigDict, classes: int) -> dict[str, Any]:
    """Gives ``model``, a UPerNet, as narrow as it goes, for images of 64x64."""
    model = ConfigDict(narrow(model, backbone=SMALLEST, width=16, hidden=16, classes=classes, queries=0))
    widths = map_widths(model)
    model.data_preprocessor.size = (64, 64)
    model.decode_head.channels = model.auxiliary_head.channels = 16
    model.auxiliary_head.in_channels = widths[model.auxiliary_head.in_index]
    return model.to_dict()
