# Averaged weights, which are validated, and saved as the model's.
default_hooks = dict(ema=dict(type='EMAHook', ema_type='ExpMomentumEMA', momentum=0.0002, update_buffers=True))
