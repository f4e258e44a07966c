# 72 epochs of AdamW, everything else as in 12: the paper's 6x.
_base_ = './adamw_1x.py'

param_scheduler = [
    _base_.warmup,
    dict(type='MultiStepLR', begin=0, end=72, by_epoch=True, milestones=[63, 69], gamma=0.1),
]
train_cfg = dict(max_epochs=72)
