# 100 epochs for 4 GPUs with 32 images each, as in mmdet's RTMDet recipes on Swin: neither norms nor biases decay, and
# the rate falls along a cosine in the second half.
base_lr = 0.001
max_epochs = 100
plain_epochs = 10  # without pictures that are put together
interval = 10
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=base_lr, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0, bias_decay_mult=0, bypass_duplicate=True),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-5, by_epoch=False, begin=0, end=1000),
    dict(
        type='CosineAnnealingLR',
        eta_min=base_lr * 0.05,
        begin=max_epochs // 2,
        end=max_epochs,
        T_max=max_epochs // 2,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]

train_cfg = dict(
    type='EpochBasedTrainLoop',
    max_epochs=max_epochs,
    val_interval=interval,
    dynamic_intervals=[(max_epochs - plain_epochs, 1)],
)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

# `--auto-scale-lr` scales the learning rate by the batch size over this one: 4 x 32.
# mmdet's recipe says 16, which is left over from a schedule of another batch.
auto_scale_lr = dict(enable=False, base_batch_size=128)
