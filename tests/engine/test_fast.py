"""What of `fast` a device has no use for is said in one line; blocks are compiled on GPUs."""

import pytest
import torch

from swin_mm.engine import fast
from swin_mm.engine.fast import FastTraining


@pytest.fixture
def model(make_swin):
    """A model with a Swin backbone; the settings of the process are put back."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    yield torch.nn.ModuleDict(dict(backbone=make_swin()))
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


@pytest.mark.parametrize(
    ('kind', 'bf16', 'lack', 'compiled'),
    [
        ('cpu', True, 'on a CPU `fast` is bfloat16 and channels last only', 0),
        ('cuda', True, None, 8),
        ('cuda', False, 'this GPU has no bfloat16 and no TF32', 8),
    ],
)
def test_what_a_device_lacks_is_said(model, monkeypatch, kind, bf16, lack, compiled):
    monkeypatch.setattr(fast, '_device', lambda model: torch.device(kind))
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda including_emulation: bf16)
    said = FastTraining().prepare(model)
    assert said is None if lack is None else said.startswith(lack)
    assert sum(module._compiled_call_impl is not None for module in model.modules()) == compiled
    assert torch.get_float32_matmul_precision() == 'high'
    weight = model.backbone.patch_embed.proj.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
