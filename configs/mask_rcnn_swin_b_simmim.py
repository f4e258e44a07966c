"""Mask R-CNN, Swin-B pretrained with SimMIM, COCO instance segmentation, 12 epochs.

    python tools/train.py configs/mask_rcnn_swin_b_simmim.py

Expected: not known; no number for these weights is known here.
From: our choice of settings (the recipe mask_rcnn_swin_b, with SimMIM's weights and its layer-wise decay of the
learning rate); not run here. SimMIM's repository (github.com/microsoft/SimMIM) has no detector. It publishes weights of
Swin-B from 800 epochs on ImageNet-1K without labels, and fine-tunes them for classification with a layer decay of 0.8
(simmim_finetune__swin_base__img224_window7__800ep.yaml); those of 100 epochs with 0.9. They were made with windows of
6. For windows of 7 the bias tables are resized, here by bicubic interpolation, there by a rule of its own.

The weights are on Google Drive: in SimMIM's README, the pre-train model of Swin-Base with 800 epochs. Put the file at
the path below.
"""

_base_ = './mask_rcnn_swin_b.py'

model = dict(
    backbone=dict(init_cfg=dict(checkpoint='data/simmim_pretrain__swin_base__img192_window6__800ep.pth')),
)
optim_wrapper = dict(constructor='swin_mm.LayerDecayConstructor', paramwise_cfg=dict(layer_decay=0.8))
