"""mmengine's own ways to load a file are ours: ``init_cfg``, ``load_from``, ``resume`` and its zoos."""

import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.model import BaseModel, BaseModule
from mmengine.optim.scheduler import OneCycleParamScheduler
from mmengine.runner import CheckpointLoader, Runner, load_checkpoint
from mmengine.runner import checkpoint as mmengine_checkpoint
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import Dataset

from swin_mm.checkpoints import files


class Numbers(Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, i):
        return torch.tensor([i / 8, 1.0, -i / 4]), torch.tensor([i / 2])


class Regression(BaseModel):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 1)

    def forward(self, x, y, mode='tensor'):
        return dict(loss=(self.linear(torch.stack(x)) - torch.stack(y)).square().mean())


class Layer(BaseModule):
    def __init__(self, checkpoint: Path):
        super().__init__(init_cfg=dict(type='Pretrained', checkpoint=str(checkpoint)))
        self.linear = nn.Linear(3, 1)


@pytest.fixture
def run(tmp_path, request):
    """Trains; each runner has a message hub of its own."""
    made = []

    def train(folder: str, **settings) -> Runner:
        torch.manual_seed(0)
        made.append(f'{request.node.name}_{len(made)}')
        sampler = dict(type='DefaultSampler', shuffle=True)
        runner = Runner(
            model=Regression(),
            work_dir=str(tmp_path / folder),
            train_dataloader=dict(
                dataset=Numbers(), batch_size=4, num_workers=0, collate_fn=dict(type='pseudo_collate'), sampler=sampler
            ),
            train_cfg=dict(by_epoch=True, max_epochs=2),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01, momentum=0.9)),
            param_scheduler=[dict(type='OneCycleLR', eta_max=0.1, total_steps=8, by_epoch=False)],
            default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=1), logger=dict(type='LoggerHook')),
            randomness=dict(seed=1),
            default_scope='mmengine',
            experiment_name=made[-1],
            log_level='ERROR',
            **settings,
        )
        runner.train()
        return runner

    return train


def as_mmengine_alone_saves(path: Path) -> None:
    """Puts objects where mmengine has them without us: logs, and the method of a scheduler."""
    saved = torch.load(path)
    scalars = saved['message_hub']['log_scalars']
    for key, log in scalars.items():
        history, count, length = log.values()
        scalars[key] = HistoryBuffer(history.numpy(), count.numpy(), length)
    saved['param_schedulers'][0]['anneal_func'] = OneCycleParamScheduler._annealing_cos
    torch.save(saved, path)
    with pytest.raises(pickle.UnpicklingError, match='HistoryBuffer'):
        torch.load(path)


@pytest.mark.skipif(torch.__version__ < '2.6', reason='PyTorch 2.5 takes no stand-ins')
def test_a_run_that_mmengine_saved_alone_is_resumed_to_the_same_end(run):
    whole = run('whole')
    first = Path(whole.work_dir, 'epoch_1.pth')
    as_mmengine_alone_saves(first)
    resumed = run('resumed', resume=True, load_from=str(first))
    for key, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[key], value)
    logs = [runner.message_hub.get_scalar('train/loss').data for runner in (whole, resumed)]
    assert len(logs[0][0]) == 4
    assert (logs[0][0] == logs[1][0]).all()


def test_a_run_starts_from_safetensors(run, tmp_path):
    model = Regression()
    save_file({key: value + 1 for key, value in model.state_dict().items()}, tmp_path / 'start.safetensors')
    runner = run('run', load_from=str(tmp_path / 'start.safetensors'), custom_hooks=[])
    assert runner.model.state_dict()['linear.weight'].isfinite().all()
    with pytest.raises(FileNotFoundError, match=r'gone\.pth'):
        run('none', load_from=str(tmp_path / 'gone.pth'))


def test_init_cfg_reads_detectron2s_pickles(tmp_path):
    state = OrderedDict((key, value.numpy()) for key, value in nn.Linear(3, 1).state_dict().items())
    (tmp_path / 'a.pkl').write_bytes(pickle.dumps({f'linear.{key}': value for key, value in state.items()}))
    layer = Layer(tmp_path / 'a.pkl')
    layer.init_weights()
    assert (layer.linear.weight.detach().numpy() == state['weight']).all()


@pytest.mark.parametrize(
    'address', ['{path}', 'http://127.0.0.1:1/a-00000000.pth', 'https://127.0.0.1:1/a-00000000.pth']
)
def test_every_load_passes_through_one_function(tmp_path, monkeypatch, address):
    asked = []

    def read(source, map_location='cpu'):
        asked.append((source, map_location))
        return {'weight': torch.ones(1, 3), 'bias': torch.ones(1)}

    monkeypatch.setattr(files, 'read', read)
    address = address.format(path=tmp_path / 'a.pth')
    net = nn.Linear(3, 1)
    load_checkpoint(net, address)
    assert net.bias.item() == 1
    CheckpointLoader.load_checkpoint(address, map_location='meta')
    assert asked == [(address, 'cpu'), (address, 'meta')]


def test_the_zoos_download_through_it_too(monkeypatch):
    asked = []
    monkeypatch.setattr(files, 'read', lambda source, map_location: asked.append(source) or {})
    monkeypatch.setattr(mmengine_checkpoint, 'get_torchvision_models', lambda: {'net': 'https://host/net.pth'})
    CheckpointLoader.load_checkpoint('torchvision://net')
    assert asked == ['https://host/net.pth']
