# Losses and metrics for `tensorboard --logdir work_dirs`; needs the package tensorboard.
visualizer = dict(vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')])
