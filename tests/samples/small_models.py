"""The model of a recipe, made very small."""

from mmengine.config import ConfigDict

from swin_mm.recipes import settings_within

WIDTHS = ('in_channels', 'out_channels', 'feat_channels', 'conv_out_channels', 'fc_out_channels', 'channels')
WIDTHS += ('proposal_feature_channel', 'feedforward_channels')


def narrow(model: ConfigDict, classes: int = 2) -> dict:
    """``model`` with a very small Swin and narrow heads for ``classes``; a detector gives the best 5 boxes."""
    width = 64 if 'bbox_head' in model else 16  # 32 groups of a GroupNorm want two channels each
    model.backbone.update(arch=None, embed_dims=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), init_cfg=None)
    maps = [8 * 2**i for i in model.backbone.get('out_indices', range(4))]
    for _, part in settings_within(model, 'model'):
        part.update({key: width for key in WIDTHS if isinstance(part.get(key), int)})
        if 'num_classes' in part:
            part.num_classes = classes
        if 'num_groups' in part:
            part.num_groups = 8  # as many channels as the narrowest map has
    if 'neck' in model:
        model.neck.in_channels = maps
        model.test_cfg.get('rcnn', model.test_cfg).update(score_thr=0.0, max_per_img=5)
    else:
        model.data_preprocessor.size = (64, 64)
        model.decode_head.in_channels = maps
        model.auxiliary_head.in_channels = maps[model.auxiliary_head.in_index]
    return model.to_dict()
