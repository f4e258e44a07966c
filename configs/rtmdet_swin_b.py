"""RTMDet-l, Swin-B pretrained on ImageNet-22K with windows of 12, COCO detection, 100 epochs: mmdet's recipe.

    python tools/train.py configs/rtmdet_swin_b.py                     # 4 GPUs x 32 images: tools/dist_train.sh ... 4
    python tools/test.py configs/rtmdet_swin_b.py CHECKPOINT

Expected: box AP 52.4; on val2017, in pictures of 640x640. 113M parameters, counted: mmdet states none.
From: mmdet's model zoo (rtmdet_l_swin_b_4xb32-100e_coco); not reproduced here. Its backbone keeps no activations of
blocks (`with_cp`), which computes them twice and saves memory.
"""

_base_ = './rtmdet_swin_t.py'

pretrained = 'https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_base_patch4_window12_384_22k.pth'
model = dict(
    backbone=dict(
        arch='base',
        pretrain_img_size=384,
        window_size=12,
        drop_path_rate=0.3,
        with_cp=True,
        init_cfg=dict(checkpoint=pretrained),
    ),
    neck=dict(in_channels=[256, 512, 1024]),
)
