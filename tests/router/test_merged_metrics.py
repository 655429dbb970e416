"""Many engines' pages of metrics as one: nothing is lost, nothing collides, and it is still such a page."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from warmroute.metrics.merged import merged

URLS = ("http://a:1", "http://b:2", "http://c:3")
_VALUES = st.text(max_size=12)


def samples(page: str) -> list[tuple[str, dict[str, str], float]]:
    return [
        (sample.name, dict(sample.labels), sample.value)
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if not sample.name.endswith("_created")
    ]


@given(st.lists(st.tuples(_VALUES, st.floats(0, 1e9)), min_size=1, max_size=3, unique_by=lambda one: one[0]))
def test_every_sample_is_there_once_with_its_worker(values: list[tuple[str, float]]) -> None:
    """Against prometheus-client, which writes the pages and reads the merged one."""
    pages = []
    for number, url in enumerate(URLS):
        registry = CollectorRegistry()
        gauge = Gauge("vllm:num_requests", "Of a {model}", ["model_name"], registry=registry)
        asked = Counter("asked", "Asked", ["model_name"], registry=registry)
        took = Histogram("took_seconds", "Took", registry=registry)
        for label, value in values:
            gauge.labels(label).set(value + number)
            asked.labels(label).inc(value)
            took.observe(value)
        pages.append((url, generate_latest(registry).decode()))
    page = "".join(merged(pages))
    expected = [
        (name, labels | {"worker": url}, value) for url, one in pages for name, labels, value in samples(one)
    ]
    assert sorted(samples(page), key=_key) == sorted(expected, key=_key)
    names = [line.split()[2] for line in page.splitlines() if line.startswith("# TYPE")]
    assert len(names) == len(set(names)), "a family is described once"


def _key(sample: tuple[str, dict[str, str], float]) -> tuple[object, ...]:
    name, labels, value = sample
    return name, sorted(labels.items()), value


def test_a_label_that_engines_have_already_is_kept_under_another_name() -> None:
    page = "".join(merged([(URLS[0], 'x{a="1",worker="7"} 2\ny{worker="8"} 3\nz 4 1700000000000\n')]))
    assert samples(page) == [
        ("x", {"a": "1", "exported_worker": "7", "worker": URLS[0]}, 2.0),
        ("y", {"exported_worker": "8", "worker": URLS[0]}, 3.0),
        ("z", {"worker": URLS[0]}, 4.0),
    ]


def test_what_is_no_sample_is_left_out() -> None:
    odd = '<html>\n# EOF\n# a comment\nname_without_value\n{no="name"} 1\nopen{a="1 5\n\x00 3\ngood 1\n'
    assert "".join(merged([(URLS[0], odd)])) == 'good{worker="http://a:1"} 1\n'


def test_no_pages_are_an_empty_page() -> None:
    assert list(merged([])) == []


@given(st.text(max_size=200))
def test_any_text_at_all_makes_a_page_that_can_be_read(text: str) -> None:
    lines = "".join(merged([(URLS[0], text)])).splitlines()
    assert all(line.startswith("#") or 'worker="http://a:1"' in line for line in lines if line)
