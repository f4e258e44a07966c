"""UPerNet, Swin V2-T, ADE20K semantic segmentation, 160k iterations.

    python tools/train.py configs/upernet_swin_v2_t.py

Expected: not known; no official number exists.
From: our choice of settings (those of upernet_swin_t, with windows of 8 and weights of 256 pixels); not run here.
"""

_base_ = './upernet_swin_t.py'

# The publisher states no hash for this file. Train without it: --cfg-options model.backbone.init_cfg=None
pretrained = 'https://github.com/SwinTransformer/storage/releases/download/v2.0.0/swinv2_tiny_patch4_window8_256.pth'
model = dict(backbone=dict(type='swin_mm.SwinTransformerV2', init_cfg=dict(checkpoint=pretrained)))

# Microsoft's rules for V2: no decay on the scale and position bias of attention, nor on its biases.
exempt = {name: dict(decay_mult=0.0) for name in ('logit_scale', 'cpb_mlp', 'q_bias', 'v_bias')}
optim_wrapper = dict(paramwise_cfg=dict(custom_keys=exempt))
