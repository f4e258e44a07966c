"""What every test starts from: one thread, fixed seeds, no network, and the data beside the repository."""

import functools
import ipaddress
import os
import random
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from samples.http_server import serving

from swin_mm import SwinTransformer, SwinTransformerV2

ROOT = Path(__file__).parents[1]
TINY = dict(embed_dims=8, depths=(2, 2, 2, 2), num_heads=(1, 2, 2, 4))


@pytest.fixture(scope='session')
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope='session')
def shared() -> Path:
    """The folder of recorded outputs and pictures; skips where there is none."""
    folder = Path(os.environ.get('SWIN_MM_SHARED', ROOT.parent / 'shared'))
    if not folder.is_dir():
        pytest.skip(f'no recorded data at {folder}: set SWIN_MM_SHARED to where it is')
    return folder


@pytest.fixture(scope='session', autouse=True)
def _one_thread():
    """Small tensors gain nothing from threads, and sums come in one order."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeds():
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _visualizers():
    """mmengine draws with the visualiser that was made last, and logs into the folder of the first of a class and name.

    Either may be one of an earlier test.
    """
    if 'mmengine.visualization' in sys.modules:
        visualizer = sys.modules['mmengine.visualization'].Visualizer
        for kind in (visualizer, *visualizer.__subclasses__()):
            kind._instance_dict.clear()


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    """A test that reaches for the internet fails here, and not on the day the server is down."""
    connect = socket.socket.connect

    def local_only(self, address):
        if self.family != socket.AF_UNIX and not _is_loopback(address[0]):
            raise OSError(f'tests must not use the network, tried to reach {address}')
        return connect(self, address)

    monkeypatch.setattr(socket.socket, 'connect', local_only)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == 'localhost'


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A server on this machine, and an empty cache for what is downloaded from it."""
    monkeypatch.setenv('SWIN_MM_CACHE', str(tmp_path / 'cache'))
    for proxy in ('http_proxy', 'HTTP_PROXY', 'all_proxy', 'ALL_PROXY'):
        monkeypatch.delenv(proxy, raising=False)
    with serving() as served:
        yield served


@pytest.fixture(scope='session')
def make_swin() -> Callable[..., SwinTransformer]:
    """Makes a small Swin in which no parameter has a special value: neither zero biases nor norms that do nothing.

    Equal arguments make equal networks, whatever was drawn before.
    """

    def make(seed: int = 0, network: type[SwinTransformer] = SwinTransformer, **arguments) -> SwinTransformer:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(seed)
            net = network(**{**TINY, **arguments})
            for parameter in net.parameters():
                parameter += 0.2 * torch.randn_like(parameter)
        return net

    return make


@pytest.fixture(scope='session')
def make_swin_v2(make_swin) -> Callable[..., SwinTransformerV2]:
    """Makes a small Swin V2 in the same way."""
    return functools.partial(make_swin, network=SwinTransformerV2)


@pytest.fixture(scope='session')
def tiny(tmp_path_factory):
    """A very small detector, trained for one epoch: config, data, work_dir and checkpoint."""
    from samples.tiny_training import trained

    return trained(tmp_path_factory.getbasetemp())
