"""Where a metric goes: at the step that was said, or after the last one of its name."""

import pytest

from steps.tracking.metric_steps import MetricSteps


def test_a_call_is_taken_whole_or_not_at_all() -> None:
    steps = MetricSteps()
    with pytest.raises(TypeError, match="metric b is 'x'"):
        steps.place({"a": 1, "b": "x"}, step=0)
    with pytest.raises(ValueError, match="metric name 'b%'"):
        steps.place({"a": 1, "b%": 1}, step=0)
    (metric,) = steps.place({"a": 2})
    assert (metric.key, metric.value, metric.step) == ("a", 2.0, 0)


def test_without_a_step_comes_after_the_last_one_of_the_name() -> None:
    steps = MetricSteps()
    placed = []
    for name, step in (("a", 7), ("a", 3), ("a", None), ("b", None), ("m", None)):
        placed += steps.place({name: 0.0}, step)
    placed += steps.place({"m": {"a": 1, "b": 2}}, step=4)
    found = [(metric.key, metric.step) for metric in placed]
    expected = [("a", 7), ("a", 3), ("a", 8), ("b", 0), ("m", 0), ("m.a", 4), ("m.b", 4)]
    assert found == expected
