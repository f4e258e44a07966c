"""Keeps mmengine from running code out of files: such content is refused, or read as data.

Three places of mmengine 0.10.7 run the config inside a checkpoint as Python: `Runner.resume`, `FlexibleRunner.resume`
and an inferencer without a config of its own. ``weights_only=True`` does not prevent this, for such a config is a
string. ``mmengine.load`` runs the tags of a YAML file and the names in a pickle.
"""

import functools
import logging
import sys
from typing import Any, BinaryIO

import torch
import yaml
from mmengine.config import Config
from mmengine.fileio.handlers import PickleHandler, yaml_handler
from mmengine.logging import print_log

from ..checkpoints.pickles import read_pickle

INFERENCER = 'mmengine.infer.infer'
RUNNERS = ('mmengine.runner.runner', 'mmengine.runner._flexible_runner')


def install() -> None:
    """Keeps mmengine from running the config of a checkpoint, a tag of a YAML file or a name in a pickle."""
    _refuse_configs_in_checkpoints()
    yaml_handler.Loader = PlainLoader
    PickleHandler.load_from_fileobj = load_pickle


def _refuse_configs_in_checkpoints() -> None:
    fromstring = Config.fromstring

    # The caller tells whose text it is: a user's own call passes a user's own text.
    @functools.wraps(fromstring)
    def fromstring_of_user(*args: Any, **kwargs: Any) -> Config:
        caller = sys._getframe(1).f_globals.get('__name__')
        if caller == INFERENCER:
            raise ValueError(
                'a config must be a file that you name: the one inside the checkpoint is a program, so it is not run; '
                "give both, as in DetInferencer(model='CONFIG.py', weights='CHECKPOINT.pth')"
            )
        if caller in RUNNERS:
            print_log('The config inside the checkpoint is a program: it is not run', 'current', logging.WARNING)
            return Config()
        return fromstring(*args, **kwargs)

    Config.fromstring = staticmethod(fromstring_of_user)


class PlainLoader(getattr(yaml, 'CSafeLoader', yaml.SafeLoader)):  # type: ignore[misc]  # in C if it is there
    """A YAML loader of plain data and of tuples, which ``Config.dump`` writes."""


def _construct_tuple(loader: PlainLoader, node: yaml.SequenceNode) -> tuple:
    return tuple(loader.construct_sequence(node, deep=True))


def _refuse_tag(loader: PlainLoader, name: str, node: yaml.Node) -> None:
    raise ValueError(
        f'YAML must hold plain data, got the tag !!python/{name} in line {node.start_mark.line + 1}, which could run '
        'code: write what it stands for'
    )


PlainLoader.add_multi_constructor('tag:yaml.org,2002:python/', _refuse_tag)
PlainLoader.add_constructor('tag:yaml.org,2002:python/tuple', _construct_tuple)


def load_pickle(handler: PickleHandler, file: BinaryIO, **kwargs: Any) -> Any:
    """Reads a pickle of numbers, texts, arrays, tensors and containers of these.

    Raises a ValueError that names anything else in it, or says how it is damaged.
    """
    try:
        return read_pickle(file, array=torch.Tensor.numpy)
    except Exception as error:  # a damaged pickle raises almost anything
        raise ValueError(
            f'a pickle must hold plain data, arrays or tensors and be whole, got {type(error).__name__}: {error}. '
            'Other names may run code: if you trust its origin, read it with pickle.load and pass on what it holds'
        ) from error
