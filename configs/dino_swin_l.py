"""DINO with 5 scales, Swin-L pretrained on ImageNet-22K with windows of 12, COCO detection, 12 epochs: mmdet's recipe.

    python tools/train.py configs/dino_swin_l.py                       # 8 GPUs x 2 images: tools/dist_train.sh ... 8

Expected: box AP 57.2; on val2017, 218M parameters.
From: mmdet's model zoo (dino-5scale_swin-l_8xb2-12e_coco); not reproduced here. Its backbone keeps no activations of
blocks (`with_cp`), which computes them twice and saves memory.
"""

_base_ = './dino_swin_t.py'

pretrained = (
    'https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_large_patch4_window12_384_22k.pth'
)
num_levels = 5
model = dict(
    num_feature_levels=num_levels,
    backbone=dict(
        arch='large',
        pretrain_img_size=384,
        window_size=12,
        out_indices=(0, 1, 2, 3),
        with_cp=True,
        init_cfg=dict(checkpoint=pretrained),
    ),
    neck=dict(in_channels=[192, 384, 768, 1536], num_outs=num_levels),
    encoder=dict(layer_cfg=dict(self_attn_cfg=dict(num_levels=num_levels))),
    decoder=dict(layer_cfg=dict(cross_attn_cfg=dict(num_levels=num_levels))),
)
