"""The two losses of RepPoints V2 that mmdet lacks."""

from torch import Tensor, nn
from torch.nn import functional


class InclusiveGIoULoss(nn.Module):
    """1 - GIoU of boxes whose sides count one more, as if the last pixel belonged to them.

    That is the official ``RPDGIoULoss``, whose boxes are in multiples of a stride: the one more makes them fuzzy. GIoU:
    Rezatofighi et al. 2019, arXiv 1902.09630.
    """

    def __init__(self, loss_weight: float = 1.0, eps: float = 1e-6):
        super().__init__()
        self.loss_weight, self.eps = loss_weight, eps

    def forward(self, pred: Tensor, target: Tensor, avg_factor: float) -> Tensor:
        """Gives the sum over boxes ``pred`` and ``target`` (n, 4), (x1, y1, x2, y2), divided by ``avg_factor``."""

        def area(low: Tensor, high: Tensor) -> Tensor:
            return (high - low + 1).prod(1)

        low, high, true_low, true_high = pred[:, :2], pred[:, 2:], target[:, :2], target[:, 2:]
        shared = (high.minimum(true_high) - low.maximum(true_low) + 1).clamp(min=0).prod(1)
        union = area(low, high) + area(true_low, true_high) - shared + self.eps
        around = (high.maximum(true_high) - low.minimum(true_low) + 1).clamp(min=0).prod(1) + self.eps
        giou = shared / union - (around - union) / around
        return self.loss_weight * (1 - giou).sum() / avg_factor


class ForegroundFocalLoss(nn.Module):
    """Focal loss of class maps that averages foreground and background apart: the official ``SEPFocalLoss``.

    The foreground is averaged by its weights, the background divided by the number of foreground cells. Focal loss:
    Lin et al. 2017, arXiv 1708.02002.
    """

    def __init__(self, gamma: float = 2.0, alpha: float = 0.25, loss_weight: float = 1.0):
        super().__init__()
        self.gamma, self.alpha, self.loss_weight = gamma, alpha, loss_weight

    def forward(self, pred: Tensor, weight: Tensor) -> Tensor:
        """Gives the loss of logits ``pred`` (n,); ``weight`` (n,) is above 0 for foreground and 0 for background."""
        is_object = weight > 0
        found, background, weight = pred[is_object], pred[~is_object], weight[is_object]
        # log(p) from the logit: finite where the probability rounds to 0 or 1.
        missed = -functional.logsigmoid(found) * (-found).sigmoid() ** self.gamma
        invented = -functional.logsigmoid(-background) * background.sigmoid() ** self.gamma
        loss = (1 - self.alpha) * invented.sum() / max(len(found), 1)  # officially infinite without foreground
        if len(found):
            loss = loss + self.alpha * (missed * weight).sum() / weight.sum()
        return self.loss_weight * loss
