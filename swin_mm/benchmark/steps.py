"""Times whole steps of a recipe's training, as the recipe has it and with the preset `fast`, in turns."""

import copy
import functools
import math
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.optim import build_optim_wrapper
from mmengine.registry import HOOKS, DefaultScope

from ..recipes import apply_presets, image_channels
from .measuring import measure, speed
from .models import made_samples
from .peers import Conditions, Shape

MEMORY = {
    'cpu': 'activations kept for the backward pass',
    'cuda': 'peak beyond the weights and moments of both, with the images',
}


class PrecisionSettings(NamedTuple):
    """The settings of the process that the preset `fast` changes; each training gets its own before every step."""

    matmul: str
    cudnn: bool

    @classmethod
    def current(cls) -> 'PrecisionSettings':
        return cls(torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32)

    def apply(self) -> None:
        torch.set_float32_matmul_precision(self.matmul)
        torch.backends.cudnn.allow_tf32 = self.cudnn


class Training:
    """A training of ``config`` on ``net``, step by step, with the optimizer and the wrapper of ``config``.

    ``lack`` says what of `fast` the device has no use for; None if nothing, or if ``config`` has not got that hook.
    """

    def __init__(self, net: BaseModel, config: Config):
        self.net = net.train()
        MMLogger.get_current_instance().setLevel('WARNING')  # it would list the rates of each parameter
        with DefaultScope.overwrite_default_scope(config.default_scope):
            self.wrapper = build_optim_wrapper(net, config.optim_wrapper)
        before = PrecisionSettings.current()
        hook = config.get('default_hooks', {}).get('fast')
        self.lack: str | None = HOOKS.build(hook).prepare(net) if hook else None
        self.settings = PrecisionSettings.current()
        before.apply()
        self.losses: list[torch.Tensor] = []

    def step(self, batch: dict[str, Any]) -> None:
        """Makes a step on ``batch``, as a data loader gives it; the n-th one draws equal random numbers everywhere."""
        self.settings.apply()
        torch.manual_seed(len(self.losses))
        self.losses.append(self.net.train_step(batch, self.wrapper)['loss'].detach())


def compare_steps(net: BaseModel, config: Config, batch: int, shape: Shape, conditions: Conditions) -> dict[str, Any]:
    """Measures steps that train copies of ``net``, the model of ``config``, on ``batch`` images of ``shape``.

    Images and annotations are made in memory. ``conditions.dtype`` counts for nothing here: an optimizer wrapper says
    what is cast.
    """
    data = _made_batch(config.default_scope, (batch, image_channels(config.model), *shape))
    before = PrecisionSettings.current()
    try:
        with torch.random.fork_rng():
            trainings = _trainings(net, config, conditions.device)
            runs = {name: (t.net, functools.partial(t.step, data)) for name, t in trainings.items()}
            found = measure(runs, conditions)
    finally:
        before.apply()
    first = float(trainings['recipe'].losses[0])
    for name, entry in found.items():
        training, first_call = trainings[name], entry.pop('first_call')
        entry['speed'] = speed(entry['times'], found['recipe']['times'])
        compiles = name != 'recipe' and conditions.device.type == 'cuda'
        entry['compiling'] = max(0.0, first_call - entry['median']) if compiles else None
        entry['difference'] = abs(float(training.losses[0]) - first) / first
        entry['caveat'] = _caveat(training)
    kinds = dict(
        memory_kind=MEMORY[conditions.device.type],
        difference_kind='of the first loss from that of recipe, as a part of it',
    )
    return dict(shape=list(shape), reference='recipe', implementations=found, **kinds)


def _trainings(net: BaseModel, config: Config, device: torch.device) -> dict[str, Training]:
    """Gives the training of ``config`` and the one with the preset `fast`, from the weights of ``net``."""
    fast = copy.deepcopy(config)
    fast.presets = ['fast']
    apply_presets(fast)
    configs = {'recipe': config, 'recipe+fast': fast}
    return {name: Training(copy.deepcopy(net).to(device), cfg) for name, cfg in configs.items()}


def _made_batch(scope: str, shape: tuple[int, int, int, int]) -> dict[str, Any]:
    """Makes what a data loader gives: images of bytes, of ``shape`` (B, channels, H, W), and their annotations."""
    images = torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return dict(inputs=list(images), data_samples=made_samples(scope, images))


def _caveat(training: Training) -> str | None:
    notes = [training.lack] if training.lack else []
    if not math.isfinite(training.losses[-1]):
        notes.append('its last loss is not finite, so its times are not those of a training')
    return '; '.join(notes) or None
