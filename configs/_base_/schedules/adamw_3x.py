# 36 epochs of AdamW, everything else as in 12: the official detection recipes named 3x.
_base_ = './adamw_1x.py'

param_scheduler = [
    _base_.warmup,
    dict(type='MultiStepLR', begin=0, end=36, by_epoch=True, milestones=[27, 33], gamma=0.1),
]
train_cfg = dict(max_epochs=36)
