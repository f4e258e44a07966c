# One image at a time, eight a step, and blocks that are computed again in the backward pass.
# The learning rate is scaled to eight images a process. A recipe that counts iterations makes an eighth of its steps:
# multiply max_iters and the schedule yourself.
model = dict(backbone=dict(with_cp=True))
train_dataloader = dict(batch_size=1)
optim_wrapper = dict(accumulative_counts=8)
auto_scale_lr = dict(enable=True)
