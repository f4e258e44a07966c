# 160k iterations for 8 GPUs with 2 images each, as in mmseg's Mask2Former recipes on ADE20K.
_base_ = '../optimizers/adamw_mask2former.py'

param_scheduler = [dict(type='PolyLR', eta_min=0, power=0.9, begin=0, end=160000, by_epoch=False)]

train_cfg = dict(type='IterBasedTrainLoop', max_iters=160000, val_interval=5000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

# `--auto-scale-lr` scales the learning rate by the batch size over this one.
auto_scale_lr = dict(enable=False, base_batch_size=16)
