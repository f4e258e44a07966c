# 12 epochs of AdamW for 8 GPUs with 2 images each, as in the official detection recipes.
_base_ = '../optimizers/adamw_swin.py'

optim_wrapper = dict(optimizer=dict(lr=1e-4, weight_decay=0.05))
# 500 iterations, as officially: mmengine reaches the full rate at iteration end - 1, mmcv 1 did at warmup_iters.
warmup = dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=501)
param_scheduler = [
    warmup,
    dict(type='MultiStepLR', begin=0, end=12, by_epoch=True, milestones=[8, 11], gamma=0.1),
]

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=12, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

# `--auto-scale-lr` scales the learning rate by the batch size over this one.
auto_scale_lr = dict(enable=False, base_batch_size=16)
