"""Nothing that a user did not type runs: each file here would leave a trace if its content were taken for a program."""

import io
import logging
import pickle
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import mmengine
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.runner import Runner, load_checkpoint
from mmengine.runner import checkpoint as mmengine_checkpoint
from samples.payloads import Payload, program, works
from samples.pico_segmentor import CLASSES, CONFIG, PALETTE, save_checkpoint
from samples.tiny_training import trained
from torch import nn

from swin_mm.inference import Segmentor

HUB = dict(log_scalars={}, runtime_info={}, resumed_keys={})


@pytest.fixture
def trace(tmp_path):
    """A folder that only a payload makes; removed once the test has shown that its payload works."""
    path = tmp_path / 'trace'
    yield path
    assert not path.exists()


@pytest.fixture(scope='module')
def segmentor(tmp_path_factory):
    path = tmp_path_factory.mktemp('segmentor') / 'pico.pth'
    return save_checkpoint(path, Config.fromfile(CONFIG), dataset_meta=dict(classes=CLASSES, palette=PALETTE))


@pytest.fixture
def run_tool(tmp_path_factory, tmp_path):
    """Runs a script with a small detector's config, in a new folder."""
    tiny = trained(tmp_path_factory.getbasetemp())

    def run(name, *words):
        words = [str(tiny.config), *map(str, words), '--work-dir', str(tmp_path)]
        return import_module(f'swin_mm.commands.{name}').main([*words, '--cfg-options', f'data_root={tiny.data}'])

    return run


@pytest.fixture
def with_config(segmentor, tmp_path, trace):
    """A checkpoint that loads with ``weights_only=True``, with a program wherever mmengine looks for a config."""
    loaded = torch.load(segmentor, weights_only=True)
    text = program(trace)
    loaded['meta'] |= dict(config=text, cfg=text, epoch=0, iter=0)
    loaded['message_hub'] = HUB | dict(runtime_info=dict(cfg=text))
    works(trace, lambda: Config.fromstring(text, '.py'))  # typed by the user, so to say
    torch.save(loaded, tmp_path / 'hostile.pth')
    return tmp_path / 'hostile.pth'


@pytest.fixture
def with_pickle(tmp_path, trace):
    """A checkpoint that holds a payload instead of a number."""
    path = tmp_path / 'hostile.pth'
    torch.save(dict(state_dict={}, meta=dict(epoch=Payload(trace), iter=0)), path)
    works(trace, lambda: torch.load(path, weights_only=False))
    return path


def test_importing_the_package_leaves_a_users_mmengine_as_it_is(tmp_path):
    """Only our commands refuse what mmengine would run out of a file."""
    (tmp_path / 'list.pkl').write_bytes(pickle.dumps(Path('a')))
    code = (
        'import swin_mm, mmengine; from swin_mm.inference import Detector; print(mmengine.load("list.pkl"))\n'
        'from swin_mm.commands import test\n'
        'try: mmengine.load("list.pkl")\n'
        'except ValueError as error: print(str(error)[:30])'
    )
    done = subprocess.run([sys.executable, '-c', code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split('\n')[:2] == ['a', 'a pickle must hold plain data,']


def inferencers():
    from mmdet.apis import DetInferencer
    from mmseg.apis import MMSegInferencer

    return dict(detection=DetInferencer, segmentation=MMSegInferencer)


@pytest.mark.parametrize('task', ['detection', 'segmentation'])
def test_an_inferencer_runs_no_config_of_a_checkpoint(with_config, task):
    with pytest.raises(ValueError, match='a config must be a file that you name: the one inside the checkpoint'):
        inferencers()[task](model=None, weights=str(with_config), device='cpu')


def test_mmsegs_own_functions_and_ours_take_the_weights_and_leave_the_config(with_config):
    from mmseg.apis import MMSegInferencer, init_model

    expected = torch.load(with_config, weights_only=True)['state_dict']
    for model in (
        init_model(str(CONFIG), str(with_config), device='cpu'),
        MMSegInferencer(str(CONFIG), str(with_config), device='cpu').model,
        Segmentor(CONFIG, with_config, device='cpu').model,
    ):
        for name, value in model.state_dict().items():
            assert torch.equal(value, expected[name]), name


class Line(BaseModel):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(1, 1)

    def forward(self, inputs, mode='tensor'):
        return dict(loss=self.linear(inputs).square().mean())


def runner(folder: Path, checkpoint: Path, name: str) -> Runner:
    """A run of mmengine's own, in a process that imported one of our commands."""
    return Runner(
        model=Line(),
        work_dir=str(folder),
        train_dataloader=dict(dataset=[torch.ones(1)] * 2, sampler=dict(type='DefaultSampler'), batch_size=1),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        resume=True,
        load_from=str(checkpoint),
        experiment_name=name,
        default_scope='mmengine',
        default_hooks=dict(checkpoint=None),
    )


def test_resuming_runs_no_config_of_a_checkpoint_and_says_so(tmp_path, trace, caplog):
    path = tmp_path / 'hostile.pth'
    meta = dict(config=program(trace), epoch=0, iter=0)
    torch.save(dict(state_dict=Line().state_dict(), meta=meta, message_hub=HUB), path)
    works(trace, lambda: Config.fromstring(torch.load(path, weights_only=True)['meta']['config'], '.py'))
    run = runner(tmp_path, path, 'config in a checkpoint')
    run.logger.addHandler(caplog.handler)
    run.train()
    assert run.iter == 2
    said = [record for record in caplog.records if 'The config inside the checkpoint is a program' in record.message]
    assert [record.levelno for record in said] == [logging.WARNING]


def test_our_tools_run_no_config_of_a_checkpoint(run_tool, tmp_path_factory, tmp_path, trace):
    tiny = trained(tmp_path_factory.getbasetemp())
    loaded = torch.load(tiny.checkpoint, weights_only=True)
    loaded['meta'] |= dict(config=program(trace), cfg=program(trace))
    loaded['message_hub']['runtime_info']['cfg'] = program(trace)
    torch.save(loaded, tmp_path / 'hostile.pth')
    assert 'coco/bbox_mAP' in run_tool('test', tmp_path / 'hostile.pth')
    run_tool('train', '--resume', tmp_path / 'hostile.pth')


def by_mmengine(path, run_tool):
    load_checkpoint(nn.Linear(1, 1), str(path))


def by_resume(path, run_tool):
    runner(path.parent, path, 'pickle in a checkpoint').train()


def by_inferencer(path, run_tool):
    inferencers()['segmentation'](str(CONFIG), str(path), device='cpu')


def by_inferencer_without_config(path, run_tool):
    inferencers()['detection'](model=None, weights=str(path), device='cpu')


def by_segmentor(path, run_tool):
    Segmentor(CONFIG, path, device='cpu')


def by_init_cfg(path, run_tool):
    cfg = Config.fromfile(CONFIG).model.backbone
    mmengine.registry.MODELS.build(cfg | dict(init_cfg=dict(type='Pretrained', checkpoint=str(path)))).init_weights()


def by_test(path, run_tool):
    run_tool('test', path)


def by_training(path, run_tool):
    run_tool('train', '--resume', path)


LOADS = [by_mmengine, by_resume, by_inferencer, by_inferencer_without_config, by_segmentor, by_init_cfg]
LOADS += [by_test, by_training]


@pytest.mark.parametrize('load', LOADS)
def test_no_path_unpickles_a_checkpoint(with_pickle, trace, run_tool, monkeypatch, load):
    """Not even with PyTorch's opt-out, which is for loads that do not say what they want."""
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    with pytest.raises(ValueError, match=r'hostile\.pth holds Python objects \(posix\.mkdir\), which could run code'):
        load(with_pickle, run_tool)


def test_a_storage_backend_unpickles_no_checkpoint(with_pickle, trace, monkeypatch):
    """mmengine's loads that do not go through ours: s3:// and its like; the opt-out there is the user's."""
    with open(with_pickle, 'rb') as file, pytest.raises(pickle.UnpicklingError, match='Weights only load failed'):
        mmengine_checkpoint.torch.load(file)
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    if torch.__version__ >= '2.6':
        with pytest.warns(UserWarning, match='TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD detected'):
            works(trace, lambda: mmengine_checkpoint.torch.load(with_pickle))


YAML = {
    'apply': '!!python/object/apply:os.mkdir [{trace}]',
    'new': 'a: [1, !!python/object/new:os.mkdir [{trace}]]',
    'name': '!!python/name:os.mkdir',
    'module': 'x: !!python/module:os',
    'object': '!!python/object:pathlib.Path {{}}',
}


@pytest.mark.parametrize('kind', YAML)
@pytest.mark.parametrize('read', [mmengine.load, Config.fromfile])
def test_yaml_runs_no_tag(tmp_path, trace, kind, read):
    path = tmp_path / 'x.yaml'
    path.write_text(YAML[kind].format(trace=trace))
    if kind in ('apply', 'new'):
        import yaml

        works(trace, lambda: yaml.unsafe_load(path.read_text()))
    with pytest.raises(ValueError, match=r'YAML must hold plain data, got the tag !!python/\S+ in line 1, which'):
        read(str(path))


def test_yaml_of_mmengine_round_trips(tmp_path):
    content = dict(a=(1, 2.5, 'x'), b=[None, True, dict(c=(3, (4,)))], d='2026-01-01')
    mmengine.dump(content, tmp_path / 'x.yaml')
    assert mmengine.load(tmp_path / 'x.yaml') == content
    Config(dict(model=dict(size=(1, 2)))).dump(tmp_path / 'config.yaml')
    assert Config.fromfile(tmp_path / 'config.yaml').model.size == (1, 2)


def test_a_pickle_of_results_or_annotations_runs_nothing(tmp_path, trace):
    path = tmp_path / 'x.pkl'
    mmengine.dump(dict(a=[1, Payload(trace)]), path)
    works(trace, lambda: pickle.loads(path.read_bytes()))
    with pytest.raises(ValueError, match=r'a pickle must hold plain data.* GLOBAL posix\.mkdir'):
        mmengine.load(path)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match='a pickle must hold plain data, arrays or tensors and be whole'):
        mmengine.load(path)


def test_a_pickle_of_plain_data_arrays_and_tensors_is_read(tmp_path):
    """As of annotations in mmengine's format, and of predictions that ``--out`` writes."""
    scores = torch.arange(6.0).reshape(2, 3)
    arrays = dict(boxes=np.eye(4, dtype=np.float32), labels=np.arange(3), none=np.zeros((0, 4)))
    tensors = dict(scores=scores, column=scores[:, 1], labels=torch.tensor([2, 1]), kept=torch.tensor([True]))
    mmengine.dump([arrays, tensors, (1, 'é', b'\0', None, np.float32(0.5))], tmp_path / 'x.pkl')
    first, second, third = mmengine.load(tmp_path / 'x.pkl')
    assert third == (1, 'é', b'\0', None, 0.5)
    for key, value in arrays.items():
        assert first[key].dtype == value.dtype
        np.testing.assert_array_equal(first[key], value, strict=True)
    for key, value in tensors.items():
        assert second[key].dtype == value.dtype
        assert torch.equal(second[key], value)


def test_the_storage_of_a_tensor_runs_nothing_either(tmp_path, trace):
    """PyTorch reads it with ``weights_only=False``."""

    class Inner:
        def __reduce__(self):
            buffer = io.BytesIO()
            torch.save(Payload(trace), buffer, _use_new_zipfile_serialization=False)
            return torch.storage._load_from_bytes, (buffer.getvalue(),)

    mmengine.dump([Inner()], tmp_path / 'x.pkl')
    works(trace, lambda: pickle.loads((tmp_path / 'x.pkl').read_bytes()))
    with pytest.raises(ValueError, match='Weights only load failed'):
        mmengine.load(tmp_path / 'x.pkl')
