"""HTC, Swin-B pretrained on ImageNet-22K, COCO instance segmentation, 72 epochs: towards the paper's HTC++.

    python tools/train.py configs/htc_swin_b.py                        # 8 GPUs x 2 images: tools/dist_train.sh ... 8
    python tools/test.py configs/htc_swin_b.py CHECKPOINT

Expected: not known; 140M parameters, counted. The paper's HTC++ has box AP 56.4, mask AP 49.1 on val2017 with 160M.
From: the paper (arXiv 2103.14030, table 2c, A2.2), which has no configuration; not run here. Stated there: weights of
ImageNet-22K, short sides of 400 to 1400 pixels and long ones of 1600 at most, 72 epochs with steps at 63 and 69, drop
path 0.2, Soft-NMS. Stated there and not here: InstaBoost, and one more layer of global attention behind the last stage.
Our choice: mmdet's HTC without the semantic branch, so that COCO's own annotations suffice; its thresholds,
for Soft-NMS too; rate, warm-up and rules of decay of the official Mask R-CNN recipes.
"""

_base_ = [
    '_base_/models/htc_swin.py',
    '_base_/datasets/coco_instance_400_1400.py',
    '_base_/schedules/adamw_6x.py',
    '_base_/detection_runtime.py',
]

# The publisher states no hash for this file. Train without it: --cfg-options model.backbone.init_cfg=None
pretrained = 'https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_base_patch4_window7_224_22k.pth'
model = dict(
    backbone=dict(arch='base', drop_path_rate=0.2, init_cfg=dict(type='Pretrained', checkpoint=pretrained)),
    neck=dict(in_channels=[128, 256, 512, 1024]),
    test_cfg=dict(rcnn=dict(nms=dict(type='soft_nms'))),
)
