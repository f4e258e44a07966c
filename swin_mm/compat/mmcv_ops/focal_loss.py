"""Sigmoid and softmax focal loss (Lin et al. 2017, equation 5; mmcv ``csrc/common/cuda/*_focal_loss_cuda_kernel.cuh``).

A target is a class, (N,) int64. Of the ``weight`` of each class, (C,), an empty tensor stands for none.
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
    """Fill ``output`` (N, C) with the loss of ``input`` (N, C), in logits; a target outside [0, C) is background."""
    p = at_least_float32(input).sigmoid()
    positive = -alpha * (1 - p) ** gamma * _log(p)
    negative = -(1 - alpha) * p**gamma * _log(1 - p)
    output.copy_(_select(positive, negative, target, weight))


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Fill ``grad_input`` (N, C) with the derivative of the loss by ``input`` (N, C)."""
    p = at_least_float32(input).sigmoid()
    positive = -alpha * (1 - p) ** gamma * (1 - p - gamma * p * _log(p))
    negative = -(1 - alpha) * p**gamma * (gamma * (1 - p) * _log(1 - p) - p)
    grad_input.copy_(_select(positive, negative, target, weight))


def softmax_focal_loss_forward(
    softmax: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Fill ``output`` (N,) with the loss of ``softmax`` (N, C), in probabilities; a negative target costs nothing."""
    p = _of_target(at_least_float32(softmax), target)
    output.copy_(-alpha * (1 - p) ** gamma * _log(p) * _weight_of(target, weight))


def softmax_focal_loss_backward(
    softmax: Tensor, target: Tensor, weight: Tensor, buff: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Fill ``grad_input`` (N, C) with the derivative by the logits, ``buff`` (N,) with the factor that a row shares."""
    probabilities = at_least_float32(softmax)
    p = _of_target(probabilities, target)
    factor = alpha * (gamma * (1 - p) ** (gamma - 1) * p * _log(p) - (1 - p) ** gamma) * _weight_of(target, weight)
    buff.copy_(factor)
    grad_input.copy_(factor[:, None] * (_is_target(probabilities, target).to(factor) - probabilities))


def _log(p: Tensor) -> Tensor:
    # mmcv's clamp is FLT_MIN in every dtype; the derivative is clamped alike, so that value and gradient match it.
    return p.clamp(min=torch.finfo(torch.float32).tiny).log()


def _is_target(values: Tensor, target: Tensor) -> Tensor:
    return target[:, None] == torch.arange(values.shape[1], device=values.device)


def _select(positive: Tensor, negative: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    chosen = torch.where(_is_target(positive, target), positive, negative)
    if weight.numel():
        # mmcv reads past the end for background; here background weighs 1.
        weight = torch.cat([weight, weight.new_ones(1)])
        foreground = (target >= 0) & (target < len(weight) - 1)
        chosen = chosen * weight[torch.where(foreground, target, -1), None]
    return chosen


def _of_target(probabilities: Tensor, target: Tensor) -> Tensor:
    return probabilities.gather(1, target.clamp(min=0)[:, None])[:, 0]


def _weight_of(target: Tensor, weight: Tensor) -> Tensor:
    valid = target >= 0
    return valid * weight[target.clamp(min=0)] if weight.numel() else valid
