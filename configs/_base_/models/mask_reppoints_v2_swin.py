# Mask RepPoints V2, as in the official repository's configs/_base_/models/mask_reppointsv2_swin_bifpn.py.
_base_ = './reppoints_v2_swin.py'

model = dict(
    data_preprocessor=dict(pad_mask=True),
    bbox_head=dict(
        type='swin_mm.MaskRepPointsV2Head',
        mask_head=dict(channels=128, sizes_of_interest=[64, 128, 256, 512, 1024], norm_cfg=dict(type='BN')),
        mask_loss_weights=[0.0, 0.6, 1.0],
        max_masks=500,
    ),
)
