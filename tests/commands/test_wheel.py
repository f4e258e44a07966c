"""The package as a wheel, installed outside any clone: every command works from an empty folder."""

import json
import os
import shutil
import site
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from samples.tiny_training import ROOT

STEPS = 20
SHORT = [
    *('train_cfg.max_epochs=1', f'train_dataloader.dataset.indices={STEPS}', 'train_dataloader.batch_size=1'),
    *('train_dataloader.num_workers=0', 'train_dataloader.persistent_workers=False'),
    *('val_cfg=None', 'val_dataloader=None', 'val_evaluator=None'),
]


def run(*command: object, **options) -> str:
    """What a command printed; one thread, since tests run side by side."""
    env = {key: value for key, value in os.environ.items() if key not in ('PYTHONPATH', 'PYTHONHOME')}
    env |= {'OMP_NUM_THREADS': '1', 'PIP_DISABLE_PIP_VERSION_CHECK': '1'}
    done = subprocess.run([*map(str, command)], env=env, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope='module')
def built(tmp_path_factory):
    """Folder with the wheel and the source distribution, built from a copy without git."""
    folder = tmp_path_factory.mktemp('built')
    tracked = subprocess.run(
        ['git', 'ls-files', '-co', '--exclude-standard'], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if tracked.returncode:
        pytest.skip('not in a git clone: what belongs to the package is not known')
    for name in tracked.stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / 'source' / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / 'source' / name)
    setuptools = [sys.executable, '-m', 'pip', 'install', '-q', '--target', str(folder / 'tools'), 'setuptools>=77']
    if subprocess.run(setuptools, capture_output=True, check=False).returncode:
        pytest.skip('setuptools cannot be had from the package index')
    code = 'from setuptools import build_meta; build_meta.build_wheel(".."); build_meta.build_sdist("..")'
    run(sys.executable, '-c', f'import sys; sys.path.insert(0, "../tools"); {code}', cwd=folder / 'source')
    return folder


@pytest.fixture(scope='module')
def swin_mm(built, tmp_path_factory):
    """Runs the installed ``swin-mm`` in an empty folder; its dependencies are this environment's."""
    folder = tmp_path_factory.mktemp('environment')
    run(sys.executable, '-m', 'venv', folder / 'env')
    python = folder / 'env/bin/python'
    packages = Path(run(python, '-c', 'import site; print(site.getsitepackages()[0])').strip())
    # As paths only: an editable install of the clone stays behind.
    (packages / 'dependencies.pth').write_text('\n'.join(site.getsitepackages()))
    run(python, '-m', 'pip', 'install', '-q', '--no-deps', '--no-index', *built.glob('*.whl'))
    empty = tmp_path_factory.mktemp('empty')
    assert str(packages) in run(python, '-c', 'import swin_mm; print(swin_mm.__file__)', cwd=empty)

    def command(*words: object) -> str:
        return run(folder / 'env/bin/swin-mm', *words, cwd=empty)

    command.folder = empty
    return command


def test_the_wheel_holds_the_recipes_and_the_source_distribution_the_tests(built):
    recipes = {path.relative_to(ROOT).as_posix() for path in ROOT.glob('configs/**/*.py')}
    with zipfile.ZipFile(next(built.glob('*.whl'))) as wheel:
        names = set(wheel.namelist())
    assert {f'swin_mm/.mim/{recipe}' for recipe in recipes} <= names
    assert 'swin_mm/py.typed' in names
    assert {f'swin_mm/inference/page/static/{name}' for name in ('index.html', 'page.js', 'page.css')} <= names
    assert not [name for name in names if name.startswith(('tests/', 'tools/', 'demo/'))]
    with tarfile.open(next(built.glob('*.tar.gz'))) as source:
        held = {name.partition('/')[2] for name in source.getnames()}
    assert recipes | {'tests/run.sh', 'tests/test_layout.py', 'tools/train.py', 'setup.py', 'README.md'} <= held


def test_a_model_is_trained_resumed_tested_and_used(swin_mm):
    recipe, work_dir = 'mask_rcnn_swin_pico_shapes', swin_mm.folder / 'work_dirs/mask_rcnn_swin_pico_shapes'
    swin_mm('train', recipe, '--cfg-options', *SHORT)
    (log,) = work_dir.glob('*/*.log')
    assert f'[1][{STEPS}/{STEPS}]' in log.read_text()
    two = [option.replace('max_epochs=1', 'max_epochs=2') for option in SHORT]
    swin_mm('train', recipe, '--resume', '--cfg-options', *two)
    checkpoint = work_dir / (work_dir / 'last_checkpoint').read_text()
    assert checkpoint.name == 'epoch_2.pth'
    swin_mm('test', recipe, checkpoint, '--cfg-options', 'test_dataloader.dataset.indices=4')
    picture = sorted((swin_mm.folder / 'data/shapes/val').glob('*.jpg'))[0]
    assert f'outputs/vis/{picture.stem}.jpg' in swin_mm('predict', picture, recipe, checkpoint, '--device', 'cpu')
    assert json.loads((swin_mm.folder / f'outputs/preds/{picture.stem}.json').read_text()).keys() >= {'bboxes', 'masks'}
    swin_mm('convert', checkpoint, 'mmdet.pth', '--to', 'mmdet')
    assert 'dialect     mmdet' in swin_mm('convert', '--inspect', 'mmdet.pth')


def test_every_other_command_answers(swin_mm):
    listed = swin_mm('recipes')
    assert all(path.stem in listed for path in ROOT.glob('configs/*.py'))
    assert 'installed' in swin_mm('doctor')
    assert 'Multiply-adds' in swin_mm('flops', 'upernet_swin_pico_shapes', '--shape', 64, 64)
    assert 'swin_mm' in swin_mm('benchmark', '--impl', 'swin_mm', '--shape', '64x64', '--rounds', 3)


def test_a_config_inherits_a_recipe(swin_mm):
    lines = ["_base_ = 'swin_mm::upernet_swin_t.py'", 'model = dict(backbone=dict(arch=None, depths=(1, 1, 1, 1)))']
    (swin_mm.folder / 'mine.py').write_text('\n'.join(lines))
    assert 'backbone' in swin_mm('flops', 'mine.py', '--shape', 64, 64)
