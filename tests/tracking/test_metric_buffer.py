"""Metrics on their way: in order, at most a thousand to a request, none lost and none twice."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow.entities import Metric

from steps.tracking import metric_buffer
from steps.tracking.metric_buffer import METRICS_PER_REQUEST, MetricBuffer


class Collector:
    """Keeps what it is sent, unless it is told to refuse."""

    def __init__(self) -> None:
        self.requests: list[list[Metric]] = []
        self.refusing = False

    def __call__(self, batch: list[Metric]) -> None:
        if self.refusing:
            raise ConnectionError
        self.requests.append(list(batch))

    @property
    def steps(self) -> list[int]:
        return [metric.step for request in self.requests for metric in request]


@settings(max_examples=25, deadline=None)
@given(calls=st.lists(st.tuples(st.integers(1, 2_500), st.booleans(), st.booleans()), max_size=5))
def test_whatever_happens_on_the_way_all_arrive_once_and_in_order(
    calls: list[tuple[int, bool, bool]],
) -> None:
    received = Collector()
    buffer = MetricBuffer(received)
    added = 0
    for count, refusing, flushing in calls:
        for _ in range(count):
            buffer.add({"loss": 0.5}, step=added)
            added += 1
        received.refusing = refusing
        before = len(received.requests)
        try:
            (buffer.flush if flushing else buffer.send_full)()
        except ConnectionError:
            assert refusing
        if not (refusing or flushing):
            assert {len(request) for request in received.requests[before:]} <= {METRICS_PER_REQUEST}
            assert added - len(received.steps) < METRICS_PER_REQUEST
    received.refusing = False
    buffer.flush()
    assert received.steps == list(range(added))
    assert all(0 < len(request) <= METRICS_PER_REQUEST for request in received.requests)


def test_a_call_is_taken_whole_or_not_at_all() -> None:
    received = Collector()
    buffer = MetricBuffer(received)
    with pytest.raises(TypeError, match="metric b is 'x'"):
        buffer.add({"a": 1, "b": "x"}, step=0)
    with pytest.raises(ValueError, match="metric name 'b%'"):
        buffer.add({"a": 1, "b%": 1}, step=0)
    buffer.add({"a": 2})
    buffer.flush()
    assert [(metric.key, metric.value, metric.step) for metric in received.requests[0]] == [
        ("a", 2.0, 0)
    ]


def test_without_a_step_comes_after_the_last_one_of_the_name() -> None:
    received = Collector()
    buffer = MetricBuffer(received)
    for name, step in (("a", 7), ("a", 3), ("a", None), ("b", None), ("m", None)):
        buffer.add({name: 0.0}, step)
    buffer.add({"m": {"a": 1, "b": 2}}, step=4)
    buffer.flush()
    found = [(metric.key, metric.step) for metric in received.requests[0]]
    expected = [("a", 7), ("a", 3), ("a", 8), ("b", 0), ("m", 0), ("m.a", 4), ("m.b", 4)]
    assert found == expected


def test_it_is_stale_until_something_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = MetricBuffer(Collector())
    monkeypatch.setattr(metric_buffer, "STALE_AFTER", -1.0)
    assert buffer.is_stale
    monkeypatch.setattr(metric_buffer, "STALE_AFTER", 3600.0)
    assert not buffer.is_stale
