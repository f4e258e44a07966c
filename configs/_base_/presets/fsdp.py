# Weights, gradients and moments in equal parts on all GPUs: for models that do not fit one.
runner_type = 'FlexibleRunner'
strategy = dict(
    type='FSDPStrategy',
    state_dict_cfg='full',  # checkpoints of the whole model in one file
    model_wrapper=dict(
        type='swin_mm.ShardedBlocks',
        use_orig_params=True,  # weight decay goes by the names of parameters
    ),
)
