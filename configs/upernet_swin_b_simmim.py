"""UPerNet, Swin-B pretrained with SimMIM, ADE20K semantic segmentation, 160k iterations.

    python tools/train.py configs/upernet_swin_b_simmim.py

Expected: not known; no number for these weights is known here. 121M parameters, 1188 GFLOPs, as the official
repository states for this model.
From: our choice of settings (the official recipe upernet_swin_b, with SimMIM's weights and its decay of the rate from
layer to layer); not run here. What SimMIM publishes, and where the weights are: see mask_rcnn_swin_b_simmim.py.
"""

_base_ = './upernet_swin_b.py'

model = dict(
    backbone=dict(init_cfg=dict(checkpoint='data/simmim_pretrain__swin_base__img192_window6__800ep.pth')),
)
optim_wrapper = dict(constructor='swin_mm.LayerDecayConstructor', paramwise_cfg=dict(layer_decay=0.8))
