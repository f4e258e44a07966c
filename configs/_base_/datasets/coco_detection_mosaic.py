# COCO 2017 boxes in pictures of 640x640, put together of several (mosaic, then a blend of two), as in mmdet's RTMDet
# recipes. `plain_pipeline`, one picture each, is for the last epochs.
_base_ = './coco_detection.py'

side = (640, 640)
grey = (114, 114, 114)
load = [dict(type='swin_mm.LoadImage'), _base_.load_boxes]
crop_and_recolour = [
    dict(type='RandomCrop', crop_size=side),
    dict(type='YOLOXHSVRandomAug'),
    dict(type='RandomFlip', prob=0.5),
    dict(type='Pad', size=side, pad_val=dict(img=grey)),
]
train_pipeline = [
    *load,
    dict(type='CachedMosaic', img_scale=side, pad_val=114.0),
    dict(type='RandomResize', scale=(1280, 1280), ratio_range=(0.1, 2.0), keep_ratio=True),
    *crop_and_recolour,
    dict(type='CachedMixUp', img_scale=side, ratio_range=(1.0, 1.0), max_cached_images=20, pad_val=grey),
    dict(type='PackDetInputs'),
]
plain_pipeline = [
    *load,
    dict(type='RandomResize', scale=side, ratio_range=(0.1, 2.0), keep_ratio=True),
    *crop_and_recolour,
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=side, keep_ratio=True),
    dict(type='Pad', size=side, pad_val=dict(img=grey)),
    *_base_.test_pipeline[2:],
]
# `--tta`: 6 views, half and three halves of the test scale beside it. They are filled up after the flip, so that it
# can be undone.
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='Resize', scale=scale, keep_ratio=True) for scale in ((640, 640), (320, 320), (960, 960))],
            [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)],
            [dict(type='Pad', size=(960, 960), pad_val=dict(img=grey))],
            [_base_.load_boxes],
            [dict(type='PackDetInputs')],
        ],
    ),
]

train_dataloader = dict(
    batch_size=32,
    num_workers=10,
    pin_memory=True,
    batch_sampler=None,
    dataset=dict(pipeline=train_pipeline),
)
val_dataloader = dict(batch_size=5, num_workers=10, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

val_evaluator = dict(proposal_nums=(100, 1, 10))
test_evaluator = val_evaluator
