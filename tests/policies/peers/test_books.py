"""Books of what waits: they name one place per request, and are zero at the end."""

from __future__ import annotations

from warmroute_policies.peers.books import Books


def test_what_waits_is_counted_where_it_was_sent_until_it_is_released() -> None:
    books = Books()
    books.book(1, 0, 500)
    books.book(2, 0, 70)
    books.book(3, 2, 9)
    assert books.queued_tokens == {0: 570, 2: 9}
    assert [list(books.waiting(slot)) for slot in range(3)] == [[500, 70], [], [9]]
    books.release(1)
    books.release(1)
    assert books.queued_tokens == {0: 70, 2: 9}
    assert [list(books.waiting(slot)) for slot in range(3)] == [[70], [], [9]]


def test_a_request_that_is_sent_again_leaves_its_former_place() -> None:
    books = Books()
    books.book(1, 0, 500)
    books.book(1, 1, 400)
    assert books.queued_tokens == {1: 400}
    assert len(books) == 1


def test_the_work_of_a_worker_that_is_gone_does_not_burden_the_next_one_in_its_slot() -> None:
    books = Books()
    books.book(1, 0, 500)
    books.book(2, 1, 60)
    books.drop(0)
    books.book(3, 0, 8)
    books.release(1)  # it ends late, and names a slot that is another worker's by now
    assert books.queued_tokens == {0: 8, 1: 60}
    books.drop(7)
    books.release(2)
    books.release(3)
    assert (books.queued_tokens, len(books)) == ({}, 0)
    assert [list(books.waiting(slot)) for slot in range(2)] == [[], []]


def test_a_request_that_is_wholly_cached_waits_as_well() -> None:
    books = Books()
    books.book(1, 0, 0)
    assert (books.queued_tokens, list(books.waiting(0))) == ({0: 0}, [0])


def test_a_request_that_is_sent_again_to_the_same_worker_waits_behind_the_others() -> None:
    books = Books()
    books.book(1, 0, 500)
    books.book(2, 0, 70)
    books.book(1, 0, 400)
    assert list(books.waiting(0)) == [70, 400]
    assert books.queued_tokens == {0: 470}
