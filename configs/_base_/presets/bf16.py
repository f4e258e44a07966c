# Matrix products and convolutions in bfloat16, everything else in float32; no loss scale.
optim_wrapper = dict(type='swin_mm.Bf16OptimWrapper')
