"""Work ahead in threads: order, bounds, errors and an early end."""

import threading
import time

import pytest

from swin_mm.inference.overlap import map_ahead


@pytest.mark.parametrize('workers', [0, 1, 3])
def test_results_come_in_order(workers):
    def late_for_even(number):
        time.sleep(0.002 * (number % 2 == 0))
        return number * number

    assert list(map_ahead(late_for_even, range(20), workers)) == [number * number for number in range(20)]


def test_no_more_than_ahead_items_are_taken_early():
    taken = []
    results = map_ahead(lambda item: item, (taken.append(item) or item for item in range(100)), workers=2, ahead=3)
    for number, result in enumerate(results):
        assert result == number
        assert len(taken) <= number + 4


def test_the_next_item_is_computed_while_the_caller_is_at_work():
    started = threading.Event()

    def note(item):
        if item == 1:
            started.set()
        return item

    results = map_ahead(note, range(3), workers=1)
    assert next(results) == 0
    assert started.wait(5)


def test_an_error_comes_where_the_result_would_be():
    results = map_ahead(lambda number: 1 // (2 - number), range(5), workers=2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_what_has_not_begun_never_begins_after_an_early_end():
    done = []

    def slow(number):
        time.sleep(0.01)
        done.append(number)

    results = map_ahead(slow, range(100), workers=1, ahead=50)
    next(results)
    results.close()
    assert len(done) < 10
