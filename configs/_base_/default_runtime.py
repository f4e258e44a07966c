# What every recipe shares, whatever its task.
custom_imports = dict(imports=['swin_mm'], allow_failed_imports=False)

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=50),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='swin_mm.SafeCheckpointHook', interval=1, max_keep_ckpts=3),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    # What follows from which failure: docs/failures.md. Not in custom_hooks, so that a config with its own keeps them.
    finite_losses=dict(type='swin_mm.FiniteLosses', patience=10),
    finite_checkpoints=dict(type='swin_mm.FiniteCheckpoints'),
    pictures=dict(type='swin_mm.CheckedImages'),
    failures=dict(type='swin_mm.NamedFailures', loader_timeout=600),
    continued=dict(type='swin_mm.ContinuedRun'),
    stop=dict(type='swin_mm.StopOnSignal'),
    curves=dict(type='swin_mm.TrainingCurves'),  # drawn into the work folder when the run ends
    weights=dict(type='swin_mm.CheckedWeights'),  # what does not fit a checkpoint is refused or said
)

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl', timeout=1800),
)

log_level = 'INFO'
load_from = None
resume = False
