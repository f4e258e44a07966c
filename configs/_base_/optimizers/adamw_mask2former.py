# AdamW with mmdet's rules for Mask2Former on Swin: a tenth of the rate for the backbone; norms, position parameters and
# embeddings of queries and levels do not decay.
slow = dict(lr_mult=0.1, decay_mult=0.0)
fixed = dict(lr_mult=1.0, decay_mult=0.0)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.05, eps=1e-8, betas=(0.9, 0.999)),
    clip_grad=dict(max_norm=0.01, norm_type=2),
    paramwise_cfg=dict(
        # The longest key that is in a name counts, so each norm of the backbone needs one longer than `backbone`.
        custom_keys={
            'backbone': dict(lr_mult=0.1, decay_mult=1.0),
            'backbone.norm': slow,
            'backbone.patch_embed.norm': slow,
            'downsample.norm': slow,
            **{f'blocks.{i}.norm': slow for i in range(18)},  # as many as a stage of Swin has at most
            'absolute_pos_embed': slow,
            'relative_position_bias_table': slow,
            'query_embed': fixed,
            'query_feat': fixed,
            'level_embed': fixed,
        },
        norm_decay_mult=0.0,
    ),
)
