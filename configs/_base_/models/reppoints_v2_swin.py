# RepPoints V2 with BiFPN on Swin-T, as in the official repository's configs/_base_/models/reppointsv2_swin_bifpn.py.
norm_cfg = dict(type='GN', num_groups=32, requires_grad=True)
model = dict(
    type='RepPointsDetector',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32,
    ),
    backbone=dict(type='swin_mm.SwinTransformer', arch='tiny', out_indices=(1, 2, 3)),
    neck=dict(
        type='swin_mm.BiFPN',
        in_channels=[192, 384, 768],
        out_channels=256,
        num_outs=5,
        num_repeat=2,
        norm_cfg=norm_cfg,
    ),
    bbox_head=dict(
        type='swin_mm.RepPointsV2Head',
        num_classes=80,
        in_channels=256,
        feat_channels=256,
        stacked_convs=3,
        shared_stacked_convs=1,
        corner_dim=64,
        gradient_mul=0.1,
        point_strides=[8, 16, 32, 64, 128],
        point_base_scale=4,
        norm_cfg=norm_cfg,
        # The head gives this loss the overlaps that the official RPDQualityFocalLoss works out.
        loss_cls=dict(type='QualityFocalLoss', use_sigmoid=True, beta=2.0, loss_weight=1.0),
        loss_bbox_init=dict(type='swin_mm.InclusiveGIoULoss', loss_weight=1.0),
        loss_bbox_refine=dict(type='swin_mm.InclusiveGIoULoss', loss_weight=2.0),
        loss_heatmap=dict(type='GaussianFocalLoss', alpha=2.0, gamma=4.0, loss_weight=0.25),
        loss_offset=dict(type='SmoothL1Loss', beta=1.0 / 9.0, loss_weight=1.0),
        loss_sem=dict(type='swin_mm.ForegroundFocalLoss', gamma=2.0, alpha=0.25, loss_weight=0.1),
    ),
    train_cfg=dict(topk=9, gaussian_iou=0.7),
    test_cfg=dict(nms_pre=1000, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.6), max_per_img=100),
)
