"""Sigmoid and softmax focal loss (Lin et al. 2017, equation 5; mmcv ``csrc/common/cuda/*_focal_loss_cuda_kernel.cuh``).

``target`` (N,) int64 holds classes, and ``weight`` (C,) a factor for each class; an empty ``weight`` means no factors.
"""

import torch
from torch import Tensor

from .precision import at_least_float32

__all__ = [
    'sigmoid_focal_loss_backward',
    'sigmoid_focal_loss_forward',
    'softmax_focal_loss_backward',
    'softmax_focal_loss_forward',
]


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Fills ``output`` (N, C) with the loss of ``input`` (N, C), in logits; a target outside [0, C) is background."""
    p = at_least_float32(input).sigmoid()
    positive = -alpha * (1 - p) ** gamma * _log(p)
    negative = -(1 - alpha) * p**gamma * _log(1 - p)
    output.copy_(_select_by_target(positive, negative, target, weight))


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Fills ``grad_input`` (N, C) with the derivative of the loss by ``input`` (N, C)."""
    p = at_least_float32(input).sigmoid()
    positive = -alpha * (1 - p) ** gamma * (1 - p - gamma * p * _log(p))
    negative = -(1 - alpha) * p**gamma * (gamma * (1 - p) * _log(1 - p) - p)
    grad_input.copy_(_select_by_target(positive, negative, target, weight))


def softmax_focal_loss_forward(
    softmax: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Fills ``output`` (N,) with the loss of ``softmax`` (N, C), in probabilities; a negative target costs nothing."""
    p = _probability_of_target(at_least_float32(softmax), target)
    output.copy_(-alpha * (1 - p) ** gamma * _log(p) * _class_weight(target, weight))


def softmax_focal_loss_backward(
    softmax: Tensor, target: Tensor, weight: Tensor, buff: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Fills ``grad_input`` (N, C) with the derivative by the logits, and ``buff`` (N,) with the factor of each row."""
    probabilities = at_least_float32(softmax)
    p = _probability_of_target(probabilities, target)
    factor = alpha * (gamma * (1 - p) ** (gamma - 1) * p * _log(p) - (1 - p) ** gamma) * _class_weight(target, weight)
    buff.copy_(factor)
    grad_input.copy_(factor[:, None] * (_is_target(probabilities, target).to(factor) - probabilities))


def _log(p: Tensor) -> Tensor:
    # mmcv clamps to FLT_MIN in every dtype. The derivative is clamped alike, so that value and gradient match mmcv's.
    return p.clamp(min=torch.finfo(torch.float32).tiny).log()


def _is_target(values: Tensor, target: Tensor) -> Tensor:
    return target[:, None] == torch.arange(values.shape[1], device=values.device)


def _select_by_target(positive: Tensor, negative: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    chosen = torch.where(_is_target(positive, target), positive, negative)
    if weight.numel():
        # mmcv reads past the end for background; here background weighs 1.
        weight = torch.cat([weight, weight.new_ones(1)])
        foreground = (target >= 0) & (target < len(weight) - 1)
        chosen = chosen * weight[torch.where(foreground, target, -1), None]
    return chosen


def _probability_of_target(probabilities: Tensor, target: Tensor) -> Tensor:
    return probabilities.gather(1, target.clamp(min=0)[:, None])[:, 0]


def _class_weight(target: Tensor, weight: Tensor) -> Tensor:
    """Gives the factor of each target's class, 0 for a negative target."""
    is_class = target >= 0
    return is_class * weight[target.clamp(min=0)] if weight.numel() else is_class
