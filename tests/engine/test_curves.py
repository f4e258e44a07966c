"""Curves show what the logs hold, and those of a resumed run what an uninterrupted one would have logged."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from interrupted_run import config, interrupted, train
from mmengine.hooks import Hook
from PIL import Image

from swin_mm.commands import plot
from swin_mm.engine import curves as drawing
from swin_mm.engine.curves import TrainingCurves, write_curves
from swin_mm.engine.run_logs import EPOCH, ITERATION, Series, read_curves
from swin_mm.errors import PreflightError

TIMES = ('time', 'data_time', 'memory')


def write_log(run: Path, *lines: dict, name='vis_data/scalars.json', end: str = '\n') -> Path:
    file = run / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text('\n'.join(json.dumps(line) for line in lines) + end)
    return file


def step(iteration: int, loss: float, **more) -> dict:
    return dict(lr=0.1 / iteration, loss=loss, time=1.0, **more, iter=iteration, step=iteration)


def rows(file: Path) -> list[dict]:
    with open(file, newline='') as lines:
        return list(csv.DictReader(lines))


@pytest.mark.usefixtures('quick_runner')
@pytest.mark.parametrize('by_epoch', [True, False], ids=['epochs', 'iterations'])
def test_a_run_that_was_killed_and_one_that_was_interrupted_have_the_curves_of_a_whole_one(tmp_path, by_epoch):
    class Dies(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            if runner.iter == 8:
                raise ZeroDivisionError

    def settings(name: str) -> dict:
        (tmp_path / name).mkdir()
        run = config(tmp_path / name, by_epoch=by_epoch, log_processor=dict(window_size=1, by_epoch=by_epoch))
        run['default_hooks']['logger'] = dict(type='LoggerHook', interval=1)
        run['custom_hooks'].append(dict(type='swin_mm.TrainingCurves'))
        return run

    train(settings('whole'))
    parts = settings('parts')
    with pytest.raises(ZeroDivisionError):
        train(parts, (Dies(),))
    checkpoint = str(tmp_path / 'parts' / ('epoch_1.pth' if by_epoch else 'iter_5.pth'))
    train(parts, resume=interrupted(parts, at=11, resume=checkpoint))  # iterations 6 to 8 are trained twice

    tables = [
        [row for row in rows(tmp_path / name / 'curves.csv') if row['name'] not in TIMES] for name in ('whole', 'parts')
    ]
    assert [row['run'] for row in tables[1][:1]] == ['parts']
    whole, joined = ([{**row, 'run': ''} for row in table] for table in tables)
    assert joined == whole
    losses = [row for row in whole if row['name'] == 'loss']
    assert [int(row['step']) for row in losses] == list(range(1, 16))
    assert {row['unit'] for row in losses} == {ITERATION}


def test_metrics_stand_at_epochs_or_iterations_as_the_run_counts(tmp_path):
    epochs = [step(2, 3.0, epoch=1), step(4, 2.0, epoch=1), dict(mAP=0.1, step=1), step(8, 1.0, epoch=2)]
    write_log(tmp_path / 'a/20260101_000000', *epochs, dict(mAP=0.2, step=2))
    iterations = [step(50, 3.0), dict(mIoU=10.0, step=70), step(100, 2.0), dict(mIoU=20.0, step=140)]
    write_log(tmp_path / 'b/20260101_000000', *iterations)
    stock = [step(50, 3.0), dict(mAP=0.1, step=0), step(100, 2.0), dict(mAP=0.2, step=0)]  # log_metric_by_epoch=True
    write_log(tmp_path / 'c/20260101_000000', *stock)
    found = read_curves(tmp_path / 'a')
    assert found[Series('val', 'mAP', EPOCH)] == {1: 0.1, 2: 0.2}
    assert found[Series('train', 'loss', ITERATION)] == {2: 3.0, 4: 2.0, 8: 1.0}
    assert read_curves(tmp_path / 'b')[Series('val', 'mIoU', ITERATION)] == {70: 10.0, 140: 20.0}
    assert read_curves(tmp_path / 'c')[Series('val', 'mAP', ITERATION)] == {50: 0.1, 100: 0.2}


def test_a_later_part_replaces_what_an_earlier_one_had_from_there_on(tmp_path):
    first = [step(1, 9.0, epoch=1), dict(mAP=0.1, step=1), step(2, 8.0, epoch=2), dict(mAP=0.2, step=2)]
    write_log(tmp_path / '20260101_000000', *first, step(3, 7.0, epoch=3), end='\n{"lr": 0.')  # killed while it wrote
    write_log(tmp_path / '20260102_000000', step(2, 8.5, epoch=2))
    write_log(tmp_path / '20260103_000000', dict(mAP=0.25, step=2), name='vis_data/20260103_000000.json')
    write_log(tmp_path / '20260104_000000', dict(mAP=0.9), name='20260104_000000.json')  # of a test
    found = read_curves(tmp_path)
    assert found[Series('train', 'loss', ITERATION)] == {1: 9.0, 2: 8.5}
    assert found[Series('val', 'mAP', EPOCH)] == {1: 0.1, 2: 0.25}


def test_a_log_is_found_below_its_run_in_its_run_and_beside_it(tmp_path):
    for name in ('vis_data/scalars.json', 'vis_data/20260101_000000.json', '20260101_000000.json'):
        folder = tmp_path / name.replace('/', '_')
        write_log(folder / '20260101_000000', step(1, 9.0), name=name)
        assert read_curves(folder)[Series('train', 'loss', ITERATION)] == {1: 9.0}
    assert read_curves(tmp_path / 'vis_data_scalars.json' / '20260101_000000')
    write_log(tmp_path / 'beside', step(1, 9.0), name='20260101_000000.json')
    assert read_curves(tmp_path / 'beside')


def test_several_runs_are_drawn_over_each_other_and_written_with_their_values(tmp_path, capsys):
    losses = {'first': [3.0, 1.0 / 3, float('nan')], 'second': [2.0, 0.1, 0.0]}
    for name, values in losses.items():
        lines = [step(i, value) for i, value in enumerate(values, 1)]
        write_log(tmp_path / name / '20260101_000000', *lines, dict(mAP=0.5, absent=-1.0, step=3))
    plot.main([*(str(tmp_path / name) for name in losses), '-o', str(tmp_path / 'out')])
    picture, table = capsys.readouterr().out.split()
    written = [row for row in rows(Path(table)) if row['name'] == 'loss']
    np.testing.assert_array_equal([float(row['value']) for row in written], losses['first'] + losses['second'])
    assert [row['run'] for row in written] == ['first'] * 3 + ['second'] * 3
    pixels = np.asarray(Image.open(picture).convert('RGB')).reshape(-1, 3)
    for colour in ((31, 119, 180), (255, 127, 14)):  # matplotlib's first and second
        assert (pixels == colour).all(1).sum() > 100
    plot.main([str(tmp_path / 'first')])
    assert capsys.readouterr().out.split()[0] == str(tmp_path / 'first/curves.png')


def test_panels_are_of_losses_rates_and_metrics_in_this_order(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr('matplotlib.figure.Figure.savefig', lambda self, *_, **__: figures.append(self))
    lines = [step(i, 1.0 / i, acc=50.0, loss_cls=0.5 / i, base_lr=0.1) for i in (1, 2)]
    write_log(tmp_path / '20260101_000000', *lines, dict(mAP=0.5, mAP_s=-1.0, data_time=1.0, step=2))
    write_curves(tmp_path, {'run': read_curves(tmp_path)})
    (figure,) = figures
    assert [axes.get_title() for axes in figure.axes] == ['loss', 'loss_cls', 'lr', 'acc', 'mAP']
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_xydata(), [[1, 1.0], [2, 0.5]])


def test_folders_without_curves_are_refused_by_name(tmp_path):
    looked_for = r'looked for TIMESTAMP/vis_data/scalars\.json and TIMESTAMP\.json'
    with pytest.raises(PreflightError, match=rf'{tmp_path}/gone: no such folder, {looked_for}'):
        plot.main([str(tmp_path / 'gone')])
    with pytest.raises(PreflightError, match=rf'{tmp_path}: holds no log of a training, {looked_for}'):
        plot.main([str(tmp_path)])
    file = write_log(tmp_path / '20260101_000000', dict(step=1))
    with pytest.raises(PreflightError, match=f'{tmp_path}: no losses and no metrics in {file}'):
        plot.main([str(tmp_path)])
    file.write_text('{"lr"\n{"step": 1}\n')
    with pytest.raises(PreflightError, match=f'{file}: line 1 must be JSON'):
        plot.main([str(tmp_path)])


def test_curves_that_cannot_be_drawn_stop_no_run(tmp_path, monkeypatch):
    warnings = []
    logger = SimpleNamespace(warning=warnings.append, info=warnings.append)
    runner = SimpleNamespace(work_dir=str(tmp_path), logger=logger)
    TrainingCurves().after_train(runner)
    assert 'the curves of this run were not drawn: ' in warnings[0]
    monkeypatch.setattr(drawing, 'read_curves', lambda folder: 1 / 0)
    TrainingCurves().after_train(runner)
    assert warnings[1] == 'the curves of this run were not drawn: division by zero'
    assert not list(tmp_path.iterdir())


def test_curves_are_drawn_by_the_first_process_alone(tmp_path, monkeypatch):
    write_log(tmp_path / '20260101_000000', step(1, 9.0))
    monkeypatch.setattr('mmengine.dist.utils.get_rank', lambda group=None: 1)
    TrainingCurves().after_train(SimpleNamespace(work_dir=str(tmp_path)))
    assert not (tmp_path / 'curves.png').exists()


def test_a_training_by_a_recipe_ends_with_its_curves(tiny):
    (log,) = tiny.work_dir.glob('*/vis_data/scalars.json')
    logged = [json.loads(line) for line in log.read_text().splitlines()]
    found = {(row['name'], int(row['step'])): float(row['value']) for row in rows(tiny.work_dir / 'curves.csv')}
    assert len(logged) == 3
    for line in logged[:2]:
        assert [found[name, line['iter']] for name in ('loss', 'lr')] == [line['loss'], line['lr']]
    assert found['coco/bbox_mAP', 1] == logged[2]['coco/bbox_mAP']
    assert Image.open(tiny.work_dir / 'curves.png').width == 1600
