"""No run goes on with weights that are only in part those of its checkpoint, or the log says which are not."""

import re
from importlib import import_module

import pytest
import torch
from mmengine import load

from swin_mm import SwinTransformer
from swin_mm.checkpoints import from_official
from swin_mm.errors import CheckpointError

ONE = ['model.roi_head.bbox_head.num_classes=1', 'model.roi_head.mask_head.num_classes=1']
ONE_TO_LEARN = [*ONE, 'train_dataloader.dataset.metainfo.classes=[box]']
NO_VAL = ['val_cfg=None', 'val_dataloader=None', 'val_evaluator=None']
HEADS = r'roi_head\.bbox_head\.fc_cls\.weight \(3, 16\) -> \(2, 16\)'


@pytest.fixture
def run(tiny, tmp_path, monkeypatch):
    """Runs a script on the tiny detector, in the folder of the test; gives back what it returned and its log."""
    monkeypatch.chdir(tmp_path)

    def run(script: str, *args: object, options: tuple = ()) -> tuple[dict, str]:
        argv = [str(tiny.config), *map(str, args), '--work-dir', str(tmp_path / 'run')]
        result = import_module(f'swin_mm.commands.{script}').main(
            [*argv, '--cfg-options', f'data_root={tiny.data}', *options]
        )
        return result, max((tmp_path / 'run').glob('*/*.log')).read_text()

    return run


@pytest.fixture
def resaved(tiny, tmp_path):
    """Path of the trained checkpoint after ``change`` was done to what it holds."""

    def resave(change) -> str:
        loaded = torch.load(tiny.checkpoint, weights_only=True)
        loaded = change(loaded) or loaded
        torch.save(loaded, tmp_path / 'changed.pth')
        return str(tmp_path / 'changed.pth')

    return resave


def test_a_test_needs_a_head_for_its_classes(run, tiny):
    with pytest.raises(CheckpointError, match=HEADS) as error:
        run('test', tiny.checkpoint, options=ONE)
    message = str(error.value)
    assert message.startswith(f'{tiny.checkpoint}: ')
    assert 'trained on 2 classes (box, disc)' in message
    assert 'set its num_classes, in a file or with --cfg-options' in message


def test_a_test_needs_every_tensor(run, resaved):
    def without_a_layer(loaded):
        del loaded['state_dict']['neck.lateral_convs.0.conv.bias']

    with pytest.raises(CheckpointError, match=r'fills \d+ of \d+ .* Missing: neck\.lateral_convs\.0\.conv\.bias'):
        run('test', resaved(without_a_layer))
    with pytest.raises(CheckpointError, match='no block of a Swin Transformer'):
        run('test', resaved(lambda loaded: {'state_dict': {'backbone.conv1.weight': torch.zeros(8, 3, 7, 7)}}))


@pytest.mark.parametrize('container', ['model', 'state_dict', None])
def test_a_test_takes_every_container(run, tiny, resaved, container):
    changed = resaved(lambda loaded: {container: loaded['state_dict']} if container else loaded['state_dict'])
    found = []
    for checkpoint in (tiny.checkpoint, changed):
        run('test', checkpoint, '--out', 'found.pkl')
        found.append(torch.cat([picture['pred_instances']['scores'] for picture in load('found.pkl')]))
    assert len(found[0]) == 20
    assert torch.equal(*found)


def test_a_training_for_other_classes_starts_with_fresh_heads_and_says_so(run, tiny, tmp_path):
    options = (*ONE_TO_LEARN, f'load_from={tiny.checkpoint}', 'optim_wrapper.optimizer.lr=0.0', *NO_VAL)
    _, log = run('train', options=options)
    assert re.search(r'WARNING - 6 tensors start fresh, they have another shape: ' + HEADS, log)
    old, new = (
        torch.load(path, weights_only=True)['state_dict'] for path in (tiny.checkpoint, tmp_path / 'run/epoch_1.pth')
    )
    other = {key for key in new if new[key].shape != old[key].shape}
    assert {key.rpartition('.')[0] for key in other} == {
        *('roi_head.bbox_head.fc_cls', 'roi_head.bbox_head.fc_reg', 'roi_head.mask_head.conv_logits'),
    }
    assert all(torch.equal(new[key], old[key]) for key in new.keys() - other)
    assert all(new[key].isfinite().all() for key in other)


def test_going_on_needs_every_tensor(run, tiny):
    with pytest.raises(CheckpointError, match=HEADS):
        run('train', '--resume', tiny.checkpoint, options=(*ONE_TO_LEARN, *NO_VAL))


def test_going_on_in_another_dialect_is_refused(run, resaved):
    """The moments of mmdet's patch merging have the shape of ours, in another order."""

    def as_mmdet(loaded):
        state = loaded['state_dict']
        own = {key[9:]: state.pop(key) for key in list(state) if key.startswith('backbone.')}
        loaded['state_dict'] |= {f'backbone.{key}': value for key, value in from_official(own, 'mmdet').items()}

    changed = resaved(as_mmdet)
    with pytest.raises(
        CheckpointError, match=r'changed\.pth: .* for another backbone .* load_from=FILE instead of --r'
    ):
        run('train', '--resume', changed)
    run('train', options=(f'load_from={changed}', *NO_VAL))


@pytest.mark.parametrize('dialect', ['official', 'timm'])
def test_a_training_starts_from_a_backbone_alone(run, tiny, tmp_path, dialect):
    arch = dict(embed_dims=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2))
    state = {key: value + 1 for key, value in SwinTransformer(**arch).state_dict().items() if key[:4] != 'norm'}
    head = {'norm.weight': torch.ones(64), 'norm.bias': torch.ones(64), 'head.weight': torch.ones(5, 64)}
    torch.save({'model': from_official(state | head, dialect)}, tmp_path / 'backbone.pth')
    _, log = run('train', options=(f'load_from={tmp_path / "backbone.pth"}', 'optim_wrapper.optimizer.lr=0.0'))
    assert 'tensors start fresh, the checkpoint does not have them: neck.lateral_convs.0.conv.weight' in log
    new = torch.load(tmp_path / 'run/epoch_1.pth', weights_only=True)['state_dict']
    assert all(torch.equal(new[f'backbone.{key}'], value) for key, value in state.items())
    with pytest.raises(CheckpointError, match='Missing: neck'):
        run('test', tmp_path / 'backbone.pth')
