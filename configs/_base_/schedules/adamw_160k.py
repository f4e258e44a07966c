# 160k iterations of AdamW for 8 GPUs with 2 images each, as in the official segmentation recipes.
_base_ = '../optimizers/adamw_swin.py'

optim_wrapper = dict(optimizer=dict(lr=6e-5, weight_decay=0.01))
# Official: 1500 and 160k iterations. mmengine is done at iteration end - 1, mmcv 1 was at warmup_iters and max_iters.
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1501),
    # From the first iteration on, as officially: the two factors multiply during the warm-up.
    dict(type='PolyLR', eta_min=0.0, power=1.0, by_epoch=False, begin=0, end=160001),
]

train_cfg = dict(type='IterBasedTrainLoop', max_iters=160000, val_interval=16000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

# `--auto-scale-lr` scales the learning rate by the batch size over this one.
auto_scale_lr = dict(enable=False, base_batch_size=16)
