"""Weights of repositories, from a server on this machine that speaks the routes of the Hub."""

import functools
import io
import os
import shutil
import sys

import pytest
import torch
from mmengine.config import Config
from safetensors.torch import save
from samples import http_server

from swin_mm.checkpoints import files, hub
from swin_mm.checkpoints.hub import Place, parse
from swin_mm.checkpoints.sources import local_file
from swin_mm.engine.preflight import check_inputs
from swin_mm.errors import PreflightError

pytest.importorskip('huggingface_hub')
STATE = {'norm.weight': torch.arange(2000.0)}


def pickled(state=STATE) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


@pytest.fixture
def publish(server, monkeypatch):
    """Puts files into the repository ``me/swin``, under a revision."""
    monkeypatch.setenv('HF_ENDPOINT', server.url)
    monkeypatch.delenv('HF_HUB_OFFLINE', raising=False)
    return functools.partial(http_server.publish, server)


def test_an_address_is_taken_apart():
    assert parse('hf://me/swin') == parse('hf://me/swin/') == Place('me/swin', None, None)
    assert parse('hf://me/swin@v1.0/sub/a.pth') == Place('me/swin', 'v1.0', 'sub/a.pth')
    assert parse('hf://me/swin@refs%2Fpr%2F1') == Place('me/swin', 'refs/pr/1', None)
    for wrong in ('hf://me', 'hf://', 'hf:///swin', 'hf://me/swin/a@v1', 'hf://me/sw in', 'hf://me/swin@'):
        with pytest.raises(ValueError, match=r'must be hf://OWNER/NAME\[@REVISION\]\[/FILE\], got hf:'):
            parse(wrong)


SAFE, TORCH = save(STATE), pickled()


@pytest.mark.parametrize(
    ('contents', 'chosen'),
    [
        ({'model.safetensors': SAFE, 'other.safetensors': SAFE, 'pytorch_model.bin': b''}, 'model.safetensors'),
        ({'swin.safetensors': SAFE, 'pytorch_model.bin': b'', 'a.pth': b'', 'README.md': b'x'}, 'swin.safetensors'),
        ({'pytorch_model.bin': TORCH, 'a.pth': b'', 'b.pth': b''}, 'pytorch_model.bin'),
        ({'sub/best.pth': TORCH, 'config.json': b'{}'}, 'sub/best.pth'),
    ],
    ids=lambda value: value if isinstance(value, str) else '',
)
def test_safetensors_come_first(publish, contents, chosen):
    publish(contents)
    assert torch.equal(files.read('hf://me/swin')['norm.weight'], STATE['norm.weight'])
    assert local_file('hf://me/swin').as_posix().endswith(f'/{chosen}')


@pytest.mark.parametrize(
    ('contents', 'words'),
    [
        (
            {'a.pth': TORCH, 'b.pth': TORCH},
            'has several files of weights, name one as hf://me/swin/FILE: a.pth, b.pth$',
        ),
        (
            {'model-00001-of-00002.safetensors': SAFE, 'model-00002-of-00002.safetensors': SAFE},
            'has several files .*: model-00001-of-00002.safetensors, model-00002',
        ),
        ({'README.md': b'x', 'train.py': b'x'}, r'has no weights: no \.safetensors, .* among README.md, train.py$'),
    ],
)
def test_a_choice_that_is_none_is_refused_with_the_list(publish, contents, words):
    publish(contents)
    with pytest.raises(ValueError, match=words):
        hub.fetch('hf://me/swin')


def test_a_file_and_a_revision_are_those_that_are_named(publish):
    publish({'a.pth': TORCH, 'b.pth': pickled({'norm.weight': torch.ones(3)})}, revision='v1')
    assert torch.equal(files.read('hf://me/swin@v1/b.pth')['norm.weight'], torch.ones(3))
    with pytest.raises(OSError, match=r'^hf://me/swin@v1/c\.pth: the repository has no c\.pth$'):
        hub.fetch('hf://me/swin@v1/c.pth')


@pytest.mark.parametrize('name', ['model.safetensors', 'best.pth'])
def test_without_a_network_the_cache_serves(publish, server, monkeypatch, name):
    publish({name: SAFE if name == 'model.safetensors' else TORCH, 'README.md': b'x'})
    path = hub.fetch('hf://me/swin')
    assert str(path).startswith(os.path.join(os.environ['SWIN_MM_CACHE'], 'hub', ''))
    monkeypatch.setenv('HF_ENDPOINT', 'http://127.0.0.1:1')
    assert hub.fetch('hf://me/swin') == path
    shutil.rmtree(os.environ['SWIN_MM_CACHE'])
    with pytest.raises(
        OSError, match=r'^hf://me/swin: .* http://127\.0\.0\.1:1 does not give it .*name its path$'
    ) as e:
        hub.fetch('hf://me/swin')
    assert '\n' not in str(e.value)


def test_a_download_that_breaks_off_is_made_whole(publish, server):
    publish({'model.safetensors': SAFE})
    server.breaks_at = [1000]
    assert hub.fetch('hf://me/swin').read_bytes() == SAFE
    assert len(server.asked) == 2


def test_another_file_than_weights_is_refused(publish):
    publish({'model.safetensors': b'<html>Sign in</html>'})
    with pytest.raises(ValueError, match=r'is not a checkpoint.*web page \(HTML\)'):
        files.read('hf://me/swin')


@pytest.mark.parametrize(
    ('status', 'code', 'words'),
    [
        (404, 'RepoNotFound', 'no such repository, or a private one: check its name, or log in with `hf auth login`'),
        (404, 'RevisionNotFound', 'no such revision: name a branch, a tag or a commit'),
        (403, 'GatedRepo', 'is open to those who accepted its terms on its page: log in with `hf auth login`'),
        (500, '', 'does not give it'),
    ],
)
def test_what_the_hub_refuses_is_one_line(publish, server, status, code, words):
    publish({'model.safetensors': SAFE})
    server.status = status
    server.headers['X-Error-Code'] = code
    with pytest.raises(OSError, match=f'^hf://me/swin.*{words}') as e:
        hub.fetch('hf://me/swin')
    assert '\n' not in str(e.value)


def test_mmengine_loads_an_address_into_a_module(publish):
    """So ``init_cfg`` and ``load_from`` do."""
    from mmengine.model import PretrainedInit

    publish({'model.safetensors': save({'weight': torch.ones(2), 'bias': torch.ones(2)})})
    norm = torch.nn.LayerNorm(2)
    PretrainedInit('hf://me/swin')(norm)
    assert torch.equal(norm.bias, torch.ones(2))


def test_a_run_that_cannot_have_its_weights_is_stopped_before_it_starts(publish):
    publish({'a.pth': TORCH, 'b.pth': TORCH})
    cfg = Config(dict(load_from='hf://me/swin'))
    with pytest.raises(PreflightError, match=r'hf://me/swin has several files .*\n(.*\n)*Weights: .* another'):
        check_inputs(cfg, training=False)
    check_inputs(Config(dict(load_from='hf://me/swin/a.pth')), training=False)


def test_without_the_library_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'huggingface_hub', None)
    with pytest.raises(PreflightError, match=r"^hf://me/swin needs huggingface_hub: pip install 'swin-mm\[hub\]'$"):
        hub.fetch('hf://me/swin')


def test_a_pickle_of_a_repository_does_not_run(publish, tmp_path):
    from samples.payloads import Payload

    publish({'model.pth': pickled(Payload(tmp_path / 'trace'))})
    with pytest.raises(ValueError, match='holds Python objects'):
        files.read('hf://me/swin')
    assert not (tmp_path / 'trace').exists()
