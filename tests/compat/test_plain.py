import os
import re
from collections import OrderedDict, deque
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.runner import save_checkpoint

from swin_mm.compat import mmengine_checkpoints as checkpoints
from swin_mm.compat.mmengine_checkpoints import plain


def test_what_is_plain_already_stays_the_same_object():
    value = dict(a=[1, (2.0, None)], b=OrderedDict(x=torch.zeros(2)), c=torch.Size([1]), d=torch.float32, e='text')
    assert plain(value) is value


@pytest.mark.parametrize(
    ('value', 'expected'),
    [
        (np.float64(0.5), 0.5),
        (np.bool_(True), True),
        (np.array([[1, 2]]), [[1, 2]]),
        (np.str_('a'), 'a'),
        (Path('a/b'), os.path.join('a', 'b')),
        ((np.int64(1), {2}), (1, [2])),
        (ConfigDict(a=ConfigDict(b=1)), dict(a=dict(b=1))),
        (OrderedDict({np.int64(1): deque([2])}), OrderedDict({1: [2]})),
        (dict(code=len, a=1), dict(a=1)),
    ],
)
def test_the_rest_is_made_plain(value, expected, tmp_path):
    result = plain(value)
    assert result == expected
    assert type(result) is type(expected)
    torch.save(result, tmp_path / 'file')
    assert torch.load(tmp_path / 'file', weights_only=True) == expected


class Custom:
    """An object that no file of weights may hold."""


def test_an_entry_that_cannot_be_made_plain_is_left_out_and_named(tmp_path, monkeypatch):
    messages, file = [], str(tmp_path / 'file.pth')
    monkeypatch.setattr(checkpoints, 'print_log', lambda message, **_: messages.append(message))
    save_checkpoint(dict(state_dict={}, meta=dict(a=1, mine=[Custom()])), file)
    assert len(messages) == 1
    assert re.match("'mine' is left out of the checkpoint: it holds a .*Custom", messages[0])
    assert torch.load(file, weights_only=True) == dict(state_dict={}, meta=dict(a=1))
    with pytest.raises(TypeError, match='Custom'):
        plain([Custom()])
