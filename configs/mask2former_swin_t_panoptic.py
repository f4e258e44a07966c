"""Mask2Former, Swin-T, COCO panoptic segmentation, 50 epochs: mmdet's recipe.

    pip install git+https://github.com/cocodataset/panopticapi.git
    python tools/train.py configs/mask2former_swin_t_panoptic.py       # 8 GPUs x 2 images: tools/dist_train.sh ... 8
    python tools/test.py configs/mask2former_swin_t_panoptic.py CHECKPOINT

Expected: PQ 53.4, box AP 46.3, mask AP 43.4; on val2017, 47M parameters.
From: mmdet's model zoo (mask2former_swin-t-p4-w7-224_8xb2-lsj-50e_coco-panoptic); not reproduced here.
"""

_base_ = [
    '_base_/models/mask2former_swin.py',
    '_base_/datasets/coco_panoptic_lsj.py',
    '_base_/schedules/mask2former_50e.py',
    '_base_/detection_iterations_runtime.py',
]

# The publisher states no hash for this file. Train without it: --cfg-options model.backbone.init_cfg=None
pretrained = 'https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_tiny_patch4_window7_224.pth'
classes = dict(num_things_classes=80, num_stuff_classes=53)
batch_pad = _base_.model.data_preprocessor.batch_augments[0]
model = dict(
    data_preprocessor=dict(pad_seg=True, batch_augments=[dict(batch_pad, pad_seg=True, seg_pad_value=255)]),
    backbone=dict(init_cfg=dict(type='Pretrained', checkpoint=pretrained)),
    panoptic_head=dict(**classes, loss_cls=dict(class_weight=[1.0] * 133 + [0.1])),
    panoptic_fusion_head=classes,
    test_cfg=dict(panoptic_on=True),
)
