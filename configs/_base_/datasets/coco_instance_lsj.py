# COCO 2017 instance segmentation with jitter from a tenth to twice 1024x1024, as in mmdet's Mask2Former recipes.
_base_ = './coco_instance.py'

jitter = [
    dict(type='RandomFlip', prob=0.5),
    dict(type='RandomResize', scale=(1024, 1024), ratio_range=(0.1, 2.0), keep_ratio=True),
    dict(
        type='RandomCrop',
        crop_size=(1024, 1024),
        crop_type='absolute',
        recompute_bbox=True,
        allow_negative_crop=True,
    ),
]
train_pipeline = [
    dict(type='swin_mm.LoadImage', to_float32=True),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    *jitter,
    dict(type='FilterAnnotations', min_gt_bbox_wh=(1e-5, 1e-5), by_mask=True),
    dict(type='PackDetInputs'),
]
test_pipeline = [dict(type='LoadImageFromFile', to_float32=True), *_base_.test_pipeline[1:]]

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
