# Mask2Former on Swin-T for ADE20K: the head of mask2former_swin.py in a segmentor of mmseg, with the settings of its
# mask2former_r50_8xb2-160k_ade20k-512x512.py.
_base_ = './mask2former_swin.py'

num_classes = 150
head = _base_.model.panoptic_head
model = dict(
    _delete_=True,
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=(512, 512),
        test_cfg=dict(size_divisor=32),
    ),
    backbone=_base_.model.backbone,
    decode_head=dict(
        type='Mask2FormerHead',
        in_channels=head.in_channels,
        strides=head.strides,
        feat_channels=head.feat_channels,
        out_channels=head.out_channels,
        num_classes=num_classes,
        num_queries=head.num_queries,
        num_transformer_feat_level=head.num_transformer_feat_level,
        align_corners=False,
        pixel_decoder=head.pixel_decoder,
        enforce_decoder_input_project=False,
        positional_encoding=head.positional_encoding,
        transformer_decoder=head.transformer_decoder,
        loss_cls=dict(
            type='mmdet.CrossEntropyLoss',
            use_sigmoid=False,
            loss_weight=2.0,
            reduction='mean',
            class_weight=[1.0] * num_classes + [0.1],
        ),
        loss_mask=head.loss_mask,
        loss_dice=head.loss_dice,
        train_cfg=_base_.model.train_cfg,
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
