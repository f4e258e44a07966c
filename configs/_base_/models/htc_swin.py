# Hybrid Task Cascade with FPN on Swin-T, without the semantic branch. All but the backbone is as in mmdet's
# htc-without-semantic_r50_fpn_1x_coco.py.
_base_ = './cascade_mask_rcnn_swin.py'

spreads = [[0.1, 0.1, 0.2, 0.2], [0.05, 0.05, 0.1, 0.1], [0.033, 0.033, 0.067, 0.067]]
mask_head = dict(
    type='HTCMaskHead',
    num_convs=4,
    in_channels=256,
    conv_out_channels=256,
    num_classes=80,
    loss_mask=dict(type='CrossEntropyLoss', use_mask=True, loss_weight=1.0),
)
model = dict(
    type='HybridTaskCascade',
    roi_head=dict(
        type='HybridTaskCascadeRoIHead',
        interleaved=True,
        mask_info_flow=True,
        bbox_head=[
            dict(
                type='Shared2FCBBoxHead',
                in_channels=256,
                fc_out_channels=1024,
                roi_feat_size=7,
                num_classes=80,
                bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_means=[0.0] * 4, target_stds=spread),
                reg_class_agnostic=True,
                loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
                loss_bbox=dict(type='SmoothL1Loss', beta=1.0, loss_weight=1.0),
            )
            for spread in spreads
        ],
        # Each mask head but the first takes the features of the one before.
        mask_head=[dict(mask_head, with_conv_res=False), mask_head, mask_head],
    ),
    train_cfg=dict(
        rcnn=[
            dict(stage, assigner=dict(stage.assigner, match_low_quality=True)) for stage in _base_.model.train_cfg.rcnn
        ]
    ),
    test_cfg=dict(rcnn=dict(score_thr=0.001)),
)
