"""UPerNet with a very small Swin on the embedded shapes: the whole segmentation path in minutes on a CPU, no download.

    python tools/train.py configs/upernet_swin_pico_shapes.py       # or all at once: bash demo/quickstart.sh --task seg

Expected: mIoU 0.82 to 0.85; on the 80 held-out pictures, six classes with the background.
From: measured here (with this code, on two CPU cores: 0.819, 0.829 and 0.845).
"""

_base_ = [
    '_base_/models/upernet_swin.py',
    '_base_/datasets/shapes_semantic.py',
    '_base_/schedules/adamw_160k.py',
    '_base_/segmentation_runtime.py',
]

norm_cfg = dict(type='BN', requires_grad=True)  # SyncBN of the larger recipes needs GPUs
model = dict(
    data_preprocessor=dict(size=(128, 128)),
    backbone=dict(arch=None, embed_dims=32, depths=(2, 2, 4, 2), num_heads=(1, 2, 4, 8), drop_path_rate=0.0),
    decode_head=dict(in_channels=[32, 64, 128, 256], channels=64, num_classes=6, norm_cfg=norm_cfg),
    auxiliary_head=dict(in_channels=128, channels=32, num_classes=6, norm_cfg=norm_cfg),
)

train_cfg = dict(max_iters=600, val_interval=600)
default_hooks = dict(checkpoint=dict(interval=600))
# From scratch in a few hundred steps: a high rate, and second moments that forget quickly enough to follow.
optim_wrapper = dict(optimizer=dict(lr=3e-3, betas=(0.9, 0.98)), clip_grad=dict(max_norm=10.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type='PolyLR', eta_min=0.0, power=1.0, by_epoch=False, begin=100, end=600),
]
auto_scale_lr = dict(base_batch_size=8)
