# 368,750 iterations for 8 GPUs with 2 images each, 50 epochs of COCO, as in mmdet's Mask2Former recipes.
_base_ = '../optimizers/adamw_mask2former.py'

max_iters = 368750
param_scheduler = dict(
    type='MultiStepLR', begin=0, end=max_iters, by_epoch=False, milestones=[327778, 355092], gamma=0.1
)
# Evaluated every 5000 iterations up to 365,000, and at the end.
train_cfg = dict(
    type='IterBasedTrainLoop',
    max_iters=max_iters,
    val_interval=5000,
    dynamic_intervals=[(365001, max_iters)],
)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

# `--auto-scale-lr` scales the learning rate by the batch size over this one.
auto_scale_lr = dict(enable=False, base_batch_size=16)
