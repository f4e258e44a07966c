"""Results of two processes meet on the first in order, through files that only these processes can have written."""

import contextlib
import multiprocessing
import os
import pickle
import stat

import numpy as np
import pytest
import torch.distributed as torch_dist
from mmengine.dist import collect_results
from samples.payloads import Payload, works

from swin_mm import compat
from swin_mm.compat import collect_results as results


@pytest.fixture
def processes(tmp_path, monkeypatch):
    """Runs a function of the rank in two processes, which gather by gloo, in ``tmp_path``; gives what each returns."""
    compat.trust_no_file()  # as our commands do
    monkeypatch.setenv('GLOO_SOCKET_IFNAME', 'lo')
    monkeypatch.chdir(tmp_path)
    context = multiprocessing.get_context('fork')

    def child(rank, function, queue):
        torch_dist.init_process_group('gloo', init_method=f'file://{tmp_path}/store', rank=rank, world_size=2)
        try:
            queue.put((rank, function(rank)))
        except Exception as error:
            queue.put((rank, f'{type(error).__name__}: {error}'))

    def run(function):
        queue = context.Queue()
        children = [context.Process(target=child, args=(rank, function, queue)) for rank in range(2)]
        for process in children:
            process.start()
        answers = dict(queue.get(timeout=120) for _ in children)
        for process in children:
            process.join(60)
        return [answers[rank] for rank in range(2)]

    return run


RESULTS = [(i, np.full(2, i), dict(counts=b'x' * i)) for i in range(5)]


def test_results_of_two_processes_meet_in_order_and_leave_nothing(processes, tmp_path):
    parts = [RESULTS[0::2], RESULTS[1::2] + RESULTS[:1]]  # as a sampler deals them out; the last is filled up
    first, second = processes(lambda rank: collect_results(parts[rank], 5, 'cpu'))
    assert second is None
    assert [(i, list(array), more) for i, array, more in first] == [(i, [i, i], more) for i, _, more in RESULTS]
    assert [path.name for path in tmp_path.iterdir()] in ([], ['store'])
    assert collect_results(parts[1], 1, 'cpu') == parts[1][:1]


def test_the_folder_where_they_meet_is_new_and_only_the_users(processes, tmp_path, monkeypatch):
    def spied(rank):
        seen = []
        gather = results.all_gather_object

        def look(digest):
            (folder,) = tmp_path.glob('given/.results-*')
            seen.append((stat.S_IMODE(folder.stat().st_mode), folder.stat().st_uid == os.getuid()))
            return gather(digest)

        results.all_gather_object = look
        with contextlib.suppress(FileExistsError):
            os.mkdir('given')
        collect_results([rank], 2, 'cpu', tmpdir='given')
        return seen

    assert processes(spied) == [[(0o700, True)]] * 2


def test_a_file_that_another_put_there_is_not_read(processes, tmp_path):
    trace = tmp_path / 'trace'
    hostile = pickle.dumps([Payload(trace)])
    works(trace, lambda: pickle.loads(hostile))

    def attacked(rank):
        gather = results.all_gather_object

        def replace(digest):
            digests = gather(digest)
            if rank == 0:
                (part,) = tmp_path.glob('.results-*/part_1.pkl')
                part.write_bytes(hostile)
            return digests

        results.all_gather_object = replace
        return collect_results([rank], 2, 'cpu')

    first, second = processes(attacked)
    assert second is None
    assert first.startswith('RuntimeError: ')
    assert 'part_1.pkl must be what its process wrote, got other content: it is not read' in first
    assert not trace.exists()
