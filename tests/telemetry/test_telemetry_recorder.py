from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Iterator
from itertools import count

import numpy as np
import pytest
from telemetry_rigs import KINDS, SOURCE, bins_of, column, matrix_of, named, predictions, told

from stk_ml.artifact.profile import Profile
from stk_ml.artifact.schema import FeatureField, FeatureSchema
from stk_ml.serving.protocol import Hook
from stk_ml.telemetry import latency
from stk_ml.telemetry.histogram import FeatureBins
from stk_ml.telemetry.packing import LIMIT
from stk_ml.telemetry.protocol import Batch
from stk_ml.telemetry.recorder import Recorder

EMPTY = Batch()


class Sink:
    def __init__(self) -> None:
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1


@pytest.fixture
def recorder(bins: FeatureBins) -> Recorder:
    return Recorder(SOURCE, bins, capacity=64, clock=lambda: 100.0)


def longest(batch: Batch) -> int:
    rows = [*batch.events, *batch.requests, *batch.metrics]
    return max(len(value) for row in rows for value in row.properties.values())


def test_it_is_a_hook_of_the_scoring_app(recorder: Recorder) -> None:
    hook: Hook = recorder
    assert hook is recorder


def test_nothing_recorded_tells_nothing(recorder: Recorder) -> None:
    assert recorder.drain(110.0) == EMPTY


def test_single_and_many_rows_are_counted_and_told_by_id(
    recorder: Recorder, bins: FeatureBins, generator: np.random.Generator
) -> None:
    matrix, scores = matrix_of(200, generator), generator.random(200)
    for place in range(50):
        recorder.row(f"single-{place}", f"parcel-{place}", matrix[place], float(scores[place]))
    recorder.rows("many", (), matrix[50:], scores[50:])
    batch = recorder.drain(110.0)
    assert told([batch]) == {"histogram": 200, "predictions": 200, "scores": 200}
    expected = {column.name: column for column in bins.histograms(bins.count(matrix, scores))}
    for event in named([batch], "stk.histogram"):
        column = expected.pop(event.properties["feature"])
        assert tuple(json.loads(event.properties["counts"])) == column.counts
        cells = ("below", "above", "missing", "other", "unseen", "rows")
        assert {name: int(event.properties[name]) for name in cells} == {name: getattr(column, name) for name in cells}
        assert event.properties["kind"] == column.kind
    assert not expected
    ids = [f"single-{place}" for place in range(50)] + ["many"] * 150
    row_ids = [f"parcel-{place}" for place in range(50)] + [""] * 150
    assert predictions([batch]) == list(zip(ids, row_ids, scores.tolist(), [0] * 200, strict=True))


def test_what_the_policy_lets_pass_is_counted_once_for_each_row_whichever_way_it_came() -> None:
    fields = (
        FeatureField("km", "number", minimum=0, maximum=5000),
        FeatureField("stops", "integer", maximum=9),
        FeatureField("weight", "number"),
        FeatureField("kind", "category", KINDS),
    )
    columns = tuple(column(field.name, (0.0, 1.0), field.categories) for field in fields)
    bins = FeatureBins(FeatureSchema(fields), Profile(("all",), {}, (), columns, ("all",), column("score", (0.0, 1.0))))
    recorder = Recorder(SOURCE, bins, capacity=8, clock=lambda: 100.0)
    odd = [-1.0, 10.0, 1e9, -1.0]
    for place in range(10):
        recorder.row(f"single-{place}", "", odd, 0.5)
        recorder.row(f"good-{place}", "", [0.0, 9.0, np.nan, 1.0], 0.5)
    recorder.rows("many", (), np.array([odd, [5000.0, np.nan, 1.0, np.nan]] * 10), [0.5] * 20)
    recorder.count("wrong_type", "weight", 3)
    found = [event.properties for event in named([recorder.drain(110.0)], "stk.counted")]
    assert {(each["what"], each["column"]): int(each["rows"]) for each in found} == {
        ("unseen_category", "kind"): 20,
        ("out_of_range", "km"): 20,
        ("out_of_range", "stops"): 20,
        ("wrong_type", "weight"): 3,
    }
    assert len(found) == 4
    assert not named([recorder.drain(120.0)], "stk.counted")


def test_the_moments_of_the_scores_are_exact(recorder: Recorder, generator: np.random.Generator) -> None:
    scores = generator.random(1000)
    recorder.rows("many", (), matrix_of(1000, generator), scores)
    (metric,) = (metric for metric in recorder.drain(110.0).metrics if metric.name == "stk.scores")
    assert (metric.count, metric.min, metric.max) == (1000, scores.min(), scores.max())
    assert metric.sum == pytest.approx(scores.sum(), rel=1e-12)
    assert float(metric.properties["squares"]) == pytest.approx((scores**2).sum(), rel=1e-12)


def test_every_row_says_where_it_comes_from_and_of_which_window(recorder: Recorder) -> None:
    recorder.row("r", "", [1.0, 2.0, 1.0, 0.0], 0.5)
    recorder.request("r", "/score", 500, 0.01, "internal")
    batch = recorder.drain(110.0)
    for row in [*batch.events, *batch.requests, *batch.metrics]:
        assert {
            "endpoint": "eta",
            "deployment": "v3",
            "model": "flight-delay",
            "version": "3",
            "digest": "ab12",
            "worker": "w1",
            "shadow": "false",
            "window_start": "1970-01-01T00:01:40.000000Z",
            "window_end": "1970-01-01T00:01:50.000000Z",
        }.items() <= row.properties.items()


def test_windows_follow_one_another(recorder: Recorder) -> None:
    recorder.row("a", "", [1.0, 2.0, 1.0, 0.0], 0.5)
    recorder.drain(110.0)
    recorder.row("b", "", [1.0, 2.0, 1.0, 0.0], 0.25)
    batch = recorder.drain(120.0)
    assert told([batch]) == {"histogram": 1, "predictions": 1, "scores": 1}
    assert {event.properties["window_start"] for event in batch.events} == {"1970-01-01T00:01:50.000000Z"}
    assert [entry[3] for entry in predictions([batch])] == [-10_000], "the clock of this test stands still"


def test_request_metrics_tell_count_milliseconds_and_latency_by_route_status_and_reason(recorder: Recorder) -> None:
    for milliseconds in (1.0, 2.0, 4.0):
        recorder.request("a", "/score", 200, milliseconds / 1000)
    recorder.request("b", "/score", 422, 0.5, "rows")
    first, second = recorder.drain(110.0).metrics
    assert (first.count, first.sum, first.min, first.max) == (3, pytest.approx(7.0), 1.0, 4.0)
    assert json.loads(first.properties["latency"]) == {str(latency.bin(m / 1000)): 1 for m in (1.0, 2.0, 4.0)}
    assert [second.properties[name] for name in ("route", "status", "reason")] == ["/score", "422", "rows"]


def test_failed_requests_are_told_up_to_a_bound_and_answered_ones_by_share(bins: FeatureBins) -> None:
    recorder = Recorder(SOURCE, bins, sample=0.1, max_samples=20)
    for place in range(100):
        recorder.request(f"bad-{place}", "/score", 503, 0.001, "busy")
        recorder.request(f"good-{place}", "/score", 200, 0.001)
    requests = recorder.drain(110.0).requests
    failed = [request for request in requests if not request.success]
    answered = [request for request in requests if request.success]
    assert len(failed) == 20
    assert 3 <= len(answered) <= 20
    assert failed[0].result_code == "503"
    assert failed[0].properties["reason"] == "busy"
    assert failed[0].duration == 1.0


def test_which_rows_and_requests_are_told_depends_on_their_ids_alone(bins: FeatureBins) -> None:
    def told_of(order: Iterator[int] | range) -> tuple[set[str], set[str]]:
        recorder = Recorder(SOURCE, bins, sample=0.05, max_samples=30, capacity=16)
        for place in order:
            recorder.row(f"id-{place}", "", [1.0, 2.0, 1.0, 0.0], 0.5)
            recorder.request(f"id-{place}", "/score", 200, 0.001)
        batch = recorder.drain(110.0)
        rows = {event.operation_id for event in named([batch], "stk.row")}
        return rows, {request.id for request in batch.requests}

    forward = told_of(range(2000))
    assert forward == told_of(reversed(range(2000)))
    assert forward[0] == forward[1]
    assert len(forward[0]) == 30


@pytest.mark.parametrize("capacity", [7, 64, 4096])
def test_rows_of_one_request_are_sampled_alike_however_buffers_fall(bins: FeatureBins, capacity: int) -> None:
    matrix = np.column_stack([np.arange(1000.0) % 100, np.arange(1000) // 100, np.ones(1000), np.zeros(1000)])
    recorder = Recorder(SOURCE, bins, sample=0.02, max_samples=100, capacity=capacity)
    recorder._backlog = 1000
    recorder.rows("some request", [f"p{place}" for place in range(1000)], matrix, np.zeros(1000))
    found = [event.properties["row_id"] for event in named([recorder.drain(110.0)], "stk.row")]
    places = sorted(int(row_id[1:]) for row_id in found)
    assert places == list(range(places[0], 1000, 50))


def test_a_sampled_row_shows_its_values_as_a_caller_writes_them(bins: FeatureBins) -> None:
    recorder = Recorder(SOURCE, bins, sample=1.0)
    recorder.row("a", "parcel", [12.5, 3.0, 1.0, 2.0], 0.75)
    recorder.row("b", "", [np.nan, np.nan, 0.0, -1.0], 0.25)
    events = {event.operation_id: event for event in named([recorder.drain(110.0)], "stk.row")}
    first = json.loads(events["a"].properties["values"])
    assert first == {"km": 12.5, "stops": 3, "express": True, "kind": "road"}
    assert isinstance(first["stops"], int)
    assert (events["a"].properties["row_id"], events["a"].properties["score"]) == ("parcel", "0.75")
    assert json.loads(events["b"].properties["values"]) == {"km": None, "stops": None, "express": False, "kind": None}
    assert json.loads(events["b"].properties["unseen"]) == ["kind"]


def test_no_property_is_longer_than_azure_monitor_takes(bins: FeatureBins, generator: np.random.Generator) -> None:
    recorder = Recorder(SOURCE, bins, sample=1.0, clock=lambda: 100.0)
    matrix = matrix_of(3000, generator)
    long = [("é" * 50 + str(place)) * (place % 40) for place in range(3000)]
    recorder.rows("x" * 64, long, matrix, generator.random(3000) * 1e-7)
    for place in range(1000):
        recorder.row(f"{'y' * 60}{place}", "", matrix[place], 1 / 3)
        recorder.count("unknown_column", "c" * 10_000 + str(place), 1)
    recorder.row("v" * 9000, "", matrix[0], 0.5)
    recorder.request("z" * 9000, "/" + "r" * 9000, 400, 0.1, "w" * 9000)
    batch = recorder.drain(110.0)
    assert longest(batch) <= LIMIT
    assert told([batch])["predictions"] == 4001
    assert [row_id for _, row_id, *_ in predictions([batch])][:3000] == [row_id[:256] for row_id in long]


def test_rows_of_a_wide_model_are_told_in_parts() -> None:
    from telemetry_rigs import column

    names = [f"a rather long name of a column {place}" for place in range(500)]
    schema = FeatureSchema(tuple(FeatureField(name, "number") for name in names))
    columns = tuple(column(name, (0.0, 1.0)) for name in names)
    wide = FeatureBins(schema, Profile(("all",), {}, (), columns, ("all",), column("score", (0.0, 1.0))))
    recorder = Recorder(SOURCE, wide, sample=1.0)
    recorder.row("a", "", np.full(500, 1 / 3), 0.5)
    batch = recorder.drain(110.0)
    parts = named([batch], "stk.row")
    assert longest(batch) <= LIMIT
    assert [event.properties["part"] for event in parts] == [str(place) for place in range(len(parts))]
    merged = {name: value for event in parts for name, value in json.loads(event.properties["values"]).items()}
    assert merged == dict.fromkeys(names, 1 / 3)


def test_what_callers_choose_cannot_make_a_window_grow(recorder: Recorder) -> None:
    for place in range(5000):
        recorder.request(f"r{place}", f"/route/{place}", 404, 0.001, f"reason {place}")
        recorder.count("unknown_column", f"column {place}", 1)
    batch = recorder.drain(110.0)
    assert len(batch.metrics) <= 201
    assert len(named([batch], "stk.counted")) <= 201
    assert told([batch])["requests"] == 5000
    assert sum(int(event.properties["rows"]) for event in named([batch], "stk.counted")) == 5000


def test_the_backlog_drops_the_oldest_and_tells_how_many(bins: FeatureBins) -> None:
    sink = Sink()
    recorder = Recorder(SOURCE, bins, sink, capacity=10)
    for place in range(1000):
        recorder.row(f"id-{place}", "", [1.0, 2.0, 1.0, 0.0], 0.5)
    batch = recorder.drain(110.0)
    assert sink.woken == 100
    assert told([batch])["dropped"] == 840
    assert [entry[0] for entry in predictions([batch])] == [f"id-{place}" for place in range(840, 1000)]
    assert told([recorder.drain(120.0)]) == {}


def test_rows_are_copied_when_they_are_recorded(recorder: Recorder) -> None:
    row = np.array([10.0, 2.0, 1.0, 0.0])
    recorder.row("a", "", row, 0.5)
    row[:] = np.nan
    km = named([recorder.drain(110.0)], "stk.histogram")[0]
    assert km.properties["missing"] == "0"


def test_a_recorder_without_bins_tells_requests_and_scores(log: object) -> None:
    recorder = Recorder(SOURCE, None, sample=1.0)
    recorder.row("a", "", object(), 0.5)
    recorder.rows("b", (), None, [0.25, 0.75])
    recorder.request("a", "/score", 401, 0.001, "key")
    batch = recorder.drain(110.0)
    assert {event.name for event in batch.events} == {"stk.predictions"}
    assert told([batch]) == {"predictions": 3, "scores": 3, "requests": 1}


def test_ids_are_left_out_on_request(bins: FeatureBins) -> None:
    recorder = Recorder(SOURCE, bins, record_ids=False)
    recorder.row("a", "", [1.0, 2.0, 1.0, 0.0], 0.5)
    assert told([recorder.drain(110.0)]) == {"histogram": 1, "scores": 1}


def test_shadow_differences_are_summed_up(recorder: Recorder) -> None:
    recorder.difference("a", [0.5, 0.5], [0.75, 0.25])
    recorder.difference("b", [0.0], [0.5])
    recorder.difference("c", [0.0], [float("nan")])
    (event,) = named([recorder.drain(110.0)], "stk.shadow")
    found = {name: float(event.properties[name]) for name in ("rows", "mean", "mean_absolute", "max", "squares", "p50")}
    assert found == {
        "rows": 3,
        "mean": pytest.approx(0.5 / 3),
        "mean_absolute": pytest.approx(1 / 3),
        "max": 0.5,
        "squares": pytest.approx(0.375),
        "p50": 0.25,
    }


def test_differences_without_end_take_bounded_memory(recorder: Recorder) -> None:
    for _ in range(50):
        recorder.difference("a", np.zeros(1000).tolist(), np.ones(1000).tolist())
    assert len(recorder._tallies.differences._kept) <= 8192
    assert named([recorder.drain(110.0)], "stk.shadow")[0].properties["rows"] == "50000"


def test_what_cannot_be_recorded_is_counted_and_never_raised(
    recorder: Recorder, caplog: pytest.LogCaptureFixture, generator: np.random.Generator
) -> None:
    with caplog.at_level(logging.WARNING, "stk_ml.telemetry"):
        recorder.row("a", "", [1.0], 0.5)
        recorder.row("a", "", [1.0, 2.0], 0.5)
        recorder.row("a", "", [1.0, 2.0, 1.0, 0.0], "no number")  # type: ignore[arg-type]
        recorder.row("lone \ud800 surrogate", "", [1.0, 2.0, 1.0, 0.0], 0.5)
        recorder.rows("b", (), matrix_of(3, generator), [0.1, 0.2])
        recorder.rows("c", None, matrix_of(2, generator), [0.1, 0.2])  # type: ignore[arg-type]
        recorder.request(None, "/score", 200, 0.1)  # type: ignore[arg-type]
        recorder.request("d", ["/score"], 200, 0.1)  # type: ignore[arg-type]
        recorder.count("what", None, 1)  # type: ignore[arg-type]
        recorder.difference("e", ["x"], [0.5])  # type: ignore[list-item]
        recorder.row("good", "", [1.0, 2.0, 1.0, 0.0], 0.5)
    batch = recorder.drain(110.0)
    (event,) = named([batch], "stk.dropped")
    assert (event.properties["rows"], event.properties["mistakes"]) == ("7", "9")
    assert told([batch])["histogram"] == 2, "[1.0] is broadcast"
    assert len(caplog.records) == 1


def test_a_buffer_that_cannot_be_counted_is_dropped_whole(recorder: Recorder) -> None:
    recorder.row("a", 5, [1.0, 2.0, 1.0, 0.0], 0.5)  # type: ignore[arg-type]
    recorder.row("b", "", [1.0, 2.0, 1.0, 0.0], 0.5)
    assert told([recorder.drain(110.0)]) == {"dropped": 2}
    recorder.row("c", "", [1.0, 2.0, 1.0, 0.0], 0.5)
    assert told([recorder.drain(120.0)])["histogram"] == 1


def test_threads_that_hammer_lose_nothing(bins: FeatureBins, generator: np.random.Generator) -> None:
    recorder = Recorder(SOURCE, bins, capacity=256)
    matrix, scores = matrix_of(500, generator), generator.random(500)
    batches: list[Batch] = []
    done = threading.Event()

    def singles(name: int) -> None:
        for place in range(3000):
            recorder.row(f"{name}-{place}", "", matrix[place % 500], 0.5)
            recorder.request(f"{name}-{place}", "/score", 200, 0.001)

    def many(name: int) -> None:
        for place in range(40):
            recorder.rows(f"{name}-{place}", (), matrix, scores)

    def drain() -> None:
        for now in count(1):
            recorder.absorb()
            if now % 10 == 0:
                batches.append(recorder.drain(float(now)))
            if done.is_set():
                return

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work, args=(n,)) for n, work in enumerate([singles, singles, many, many])]
        background = threading.Thread(target=drain)
        for thread in [*threads, background]:
            thread.start()
        for thread in threads:
            thread.join()
        done.set()
        background.join()
    finally:
        sys.setswitchinterval(interval)
    batches.append(recorder.drain(1e6))
    found = told(batches)
    assert found["requests"] == 6000
    assert found["histogram"] == found["predictions"] == found["scores"]
    assert found["histogram"] + found["dropped"] == 2 * 3000 + 2 * 40 * 500


def test_a_wide_model_gets_fewer_rows_in_a_buffer() -> None:
    bins = bins_of()
    assert Recorder(SOURCE, bins, capacity=10**9)._capacity * 4 * 8 <= 8 * 2**20
    assert KINDS


def test_what_the_hot_path_remembers_is_told_as_rows_and_requests_are(
    bins: FeatureBins, generator: np.random.Generator
) -> None:
    one, other = (Recorder(SOURCE, bins, sample=0.5, max_samples=10_000, clock=lambda: 5.0) for _ in range(2))
    for number, row in enumerate(matrix_of(3000, generator)):
        name, route = f"id-{number}", "/score" if number % 3 else "/invocations"
        score, seconds = float(generator.random()), float(generator.random()) / 100
        one.scored(name, f"row-{number}", row, score, route, seconds)
        other.row(name, f"row-{number}", row, score)
        other.request(name, route, 200, seconds)
    found, wanted = one.drain(10.0), other.drain(10.0)
    assert predictions([found]) == predictions([wanted])
    others = [[event for event in each.events if event.name != "stk.predictions"] for each in (found, wanted)]
    assert others[0] == others[1]
    assert found.requests == wanted.requests
    key = lambda metric: (metric.name, metric.properties.get("route", ""))  # noqa: E731
    for metric, same in zip(sorted(found.metrics, key=key), sorted(wanted.metrics, key=key), strict=True):
        assert (metric.count, metric.min, metric.max, metric.properties.get("latency")) == (
            same.count,
            same.min,
            same.max,
            same.properties.get("latency"),
        )
        assert metric.sum == pytest.approx(same.sum)


def test_remembered_rows_that_nobody_takes_are_dropped_the_oldest_first_and_counted(bins: FeatureBins) -> None:
    recorder = Recorder(SOURCE, bins, capacity=8, clock=lambda: 5.0)
    for number in range(1000):
        recorder.scored(f"id-{number}", "", np.array([1.0, 0.0, 1.0, 0.0]), 0.5, "/score", 0.001)
    batch = recorder.drain(10.0)
    (dropped,) = (event for event in batch.events if event.name == "stk.dropped")
    events = [event for event in batch.events if event.name == "stk.predictions"]
    ids = [name for event in events for name in json.loads(event.properties["ids"])]
    assert int(dropped.properties["rows"]) + len(ids) == 1000
    assert ids[-1] == "id-999"
