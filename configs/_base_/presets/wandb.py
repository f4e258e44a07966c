# Losses and metrics for Weights & Biases; needs the package wandb, and an account or offline mode.
visualizer = dict(vis_backends=[dict(type='LocalVisBackend'), dict(type='WandbVisBackend')])
