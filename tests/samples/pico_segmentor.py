"""The small UPerNet of the shapes recipe with weights that nothing trained: its maps hold several classes."""

from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from PIL import Image
from torch import nn

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / 'configs/upernet_swin_pico_shapes.py'
CLASSES = ('background', 'circle', 'square', 'triangle', 'star', 'cross')
PALETTE = [(0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255)]


def save_checkpoint(path: Path, cfg: Config, **meta) -> Path:
    """``path``, written as mmengine does: random weights of ``cfg`` and ``meta``."""
    init_default_scope('mmseg')
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = MODELS.build(cfg.model)
        for name, parameter in model.named_parameters():
            # Wide apart classes: labels do not hang on the last digit of a logit.
            parameter += (1.0 if 'conv_seg' in name else 0.1) * torch.randn_like(parameter)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean += 0.1 * torch.randn_like(module.running_mean)
    torch.save({'state_dict': model.state_dict(), 'meta': meta}, path)
    return path


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """uint8 (height, width, 3): coloured blobs, which JPEG keeps well."""
    coarse = np.random.default_rng(seed).integers(256, size=(height // 16 + 1, width // 16 + 1, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
