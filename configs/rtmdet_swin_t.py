"""RTMDet-l, Swin-T, COCO detection, 100 epochs.

    python tools/train.py configs/rtmdet_swin_t.py                     # 4 GPUs x 32 images: tools/dist_train.sh ... 4
    python tools/test.py configs/rtmdet_swin_t.py CHECKPOINT

Expected: not known; no official number exists.
From: our choice of settings (mmdet's rtmdet_l_swin_b_4xb32-100e_coco, which is the recipe rtmdet_swin_b, with Swin-T,
drop path 0.2, and weights of ImageNet-1K with windows of 7); not run here. mmdet's are the neck, head and losses, the
augmentation, the averaged weights, the optimizer and the schedule.
"""

_base_ = [
    '_base_/models/rtmdet_swin.py',
    '_base_/datasets/coco_detection_mosaic.py',
    '_base_/schedules/rtmdet_100e.py',
    '_base_/detection_runtime.py',
]

# The publisher states no hash for this file. Train without it: --cfg-options model.backbone.init_cfg=None
pretrained = 'https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_tiny_patch4_window7_224.pth'
model = dict(
    backbone=dict(drop_path_rate=0.2, init_cfg=dict(type='Pretrained', checkpoint=pretrained)),
)
default_hooks = dict(
    checkpoint=dict(interval=_base_.interval),
    ema=dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=0.0002, update_buffers=True, priority=49),
    plain=dict(
        type='PipelineSwitchHook',
        switch_epoch=_base_.max_epochs - _base_.plain_epochs,
        switch_pipeline=_base_.plain_pipeline,
    ),
)
tta_model = dict(tta_cfg=dict(nms=dict(iou_threshold=0.6)))
