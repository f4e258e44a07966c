# What one would set by hand on a recent GPU; not timed on one: `swin-mm benchmark --recipe NAME` does.
_base_ = './bf16.py'  # products in bfloat16: half the bytes, and tensor cores
default_hooks = dict(
    # TF32 for what stays float32; channels last, as the convolutions of necks and heads run on tensor cores;
    # blocks compiled, which joins their small operations.
    fast=dict(type='swin_mm.FastTraining')
)
train_dataloader = dict(pin_memory=True)  # images are copied to the GPU while it computes
