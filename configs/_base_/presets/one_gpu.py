# One process where a recipe means eight: the learning rate falls with the batch, as the log says.
auto_scale_lr = dict(enable=True)
