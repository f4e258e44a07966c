"""Mask2Former, Swin-T, ADE20K semantic segmentation, 160k iterations: mmseg's recipe.

    python tools/train.py configs/mask2former_swin_t_ade20k.py         # 8 GPUs x 2 images: tools/dist_train.sh ... 8
    python tools/test.py configs/mask2former_swin_t_ade20k.py CHECKPOINT

Expected: mIoU 48.66; 47M parameters.
From: mmseg's model zoo (mask2former_swin-t_8xb2-160k_ade20k-512x512); not reproduced here. The head is mmdet's.
"""

_base_ = [
    '_base_/models/mask2former_swin_semantic.py',
    '_base_/datasets/ade20k.py',
    '_base_/schedules/mask2former_160k.py',
    '_base_/segmentation_runtime.py',
]
custom_imports = dict(imports=['swin_mm', 'mmdet.models'], allow_failed_imports=False)

# The publisher states no hash for this file. Train without it: --cfg-options model.backbone.init_cfg=None
pretrained = 'https://github.com/SwinTransformer/storage/releases/download/v1.0.0/swin_tiny_patch4_window7_224.pth'
model = dict(backbone=dict(init_cfg=dict(type='Pretrained', checkpoint=pretrained)))

# The short side is drawn, the long one limited.
resize = dict(
    type='RandomChoiceResize',
    scales=[int(512 * tenths * 0.1) for tenths in range(5, 21)],
    resize_type='ResizeShortestEdge',
    max_size=2048,
)
train_pipeline = [*_base_.train_pipeline[:2], resize, *_base_.train_pipeline[3:]]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
default_hooks = dict(checkpoint=dict(interval=5000))
