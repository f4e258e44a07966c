"""Class activation maps of a stage, by the package grad-cam.

Grad-CAM (Selvaraju et al., arXiv 1610.02391) weighs the channels of a map by the gradient of a class's score.
Eigen-CAM (Muhammad and Yeasin, arXiv 2008.00299) needs no gradient and no class: it shows the map's first principal
component.
"""

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import PreflightError
from ..inference import Detector, Segmentor
from .view import View

METHODS = {'grad-cam': 'GradCAM', 'eigen-cam': 'EigenCAM'}


def activation_map(
    predictor: Detector | Segmentor, view: View, method: str, stage: int = -1, label: int | None = None
) -> np.ndarray:
    """Gives the activation map of one output of the backbone, float32 ``(H, W)`` of ``view.inputs``, from 0 to 1.

    Args:
        predictor: The trained model.
        view: The image.
        method: A key of ``METHODS``.
        stage: Index into the backbone's outputs.
        label: The class whose score Grad-CAM explains; None takes `best_class`.

    Raises ValueError for another method or class, PreflightError if the package grad-cam is missing.
    """
    if method not in METHODS:
        raise ValueError(f'method must be one of {list(METHODS)}, got {method!r}')
    explain = _package(METHODS[method])
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    scores = ClassScores(predictor, view)
    if label is None:
        label = best_class(predictor, view)
    if not 0 <= label < len(predictor.classes):
        raise ValueError(f'label must be in [0, {len(predictor.classes)}), got {label}')
    backbone = predictor.model.backbone
    norm = getattr(backbone, f'norm{backbone.out_indices[stage]}')
    # An output norm gives tokens (B, H, W, C). The package wants channels first, and nothing to be averaged over.
    with explain(scores, [norm], lambda tokens: tokens.permute(0, 3, 1, 2)) as cam:
        # Frozen layers have a gradient only if the image has one.
        heat = cam(view.inputs.clone().requires_grad_(), [ClassifierOutputTarget(label)])[0]
    predictor.model.zero_grad()
    return heat


def best_class(predictor: Detector | Segmentor, view: View) -> int:
    """Gives the class of the best object, or the one with most pixels.

    Raises ValueError if a detector finds no object at all.
    """
    with torch.no_grad():
        scores = ClassScores(predictor, view)(view.inputs)[0]
    if not scores.any():
        raise ValueError('no object is found in the image: name a class, or take eigen-cam, which needs none')
    return int(scores.argmax())


class ClassScores(nn.Module):
    """A model as a classifier, which is what Grad-CAM explains: images ``(1, C, H, W)`` to scores ``(1, classes)``.

    The score of a class is that of its best object; in a segmentor the sum of its logits over the pixels that have it,
    divided by all pixels.
    """

    def __init__(self, predictor: Detector | Segmentor, view: View):
        super().__init__()
        self.model, self.samples = predictor.model, view.samples
        self.classes = len(predictor.classes)
        self.score = self._of_pixels if isinstance(predictor, Segmentor) else self._of_objects

    def forward(self, inputs: Tensor) -> Tensor:
        return self.score(inputs)[None]

    def _of_objects(self, inputs: Tensor) -> Tensor:
        found = self.model.predict(inputs, self.samples, rescale=False)[0].pred_instances
        best = found.scores.new_zeros(self.classes)
        return best.scatter_reduce(0, found.labels, found.scores, 'amax')

    def _of_pixels(self, inputs: Tensor) -> Tensor:
        logits = self.model.inference(inputs, [sample.metainfo for sample in self.samples])[0]
        if len(logits) == 1:  # a head with one channel for two classes
            logits = torch.cat([-logits, logits])
        chosen = logits.argmax(0, keepdim=True) == torch.arange(len(logits), device=logits.device)[:, None, None]
        return (logits * chosen).mean((1, 2))


def _package(name: str) -> type:
    try:
        import pytorch_grad_cam
    except ModuleNotFoundError as error:
        raise PreflightError(
            f'activation maps need the package grad-cam, and {error.name} is missing: pip install --no-deps grad-cam '
            'ttach scikit-learn (its own list would put an OpenCV without windows in the place of yours)'
        ) from error
    return getattr(pytorch_grad_cam, name)
