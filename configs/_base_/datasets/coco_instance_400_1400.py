# COCO 2017 instance segmentation with short sides of 400 to 1400 pixels and long ones of 1600 at most.
_base_ = './coco_instance.py'

train_pipeline = [
    *_base_.train_pipeline[:2],
    dict(type='RandomResize', scale=[(1600, 400), (1600, 1400)], keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
