# COCO 2017 detection as in mmdet's DINO recipes: coco_detection.py with images without objects, and with no limit to
# the long side before the crop.
_base_ = './coco_detection.py'

crop_and_resize = [
    dict(type='RandomChoiceResize', scales=[(400, 4200), (500, 4200), (600, 4200)], keep_ratio=True),
    *_base_.crop_and_resize[1:],
]
train_pipeline = [
    *_base_.train_pipeline[:3],
    dict(type='RandomChoice', transforms=[[_base_.resize], crop_and_resize]),
    _base_.train_pipeline[4],
]
train_dataloader = dict(dataset=dict(filter_cfg=dict(filter_empty_gt=False), pipeline=train_pipeline))
