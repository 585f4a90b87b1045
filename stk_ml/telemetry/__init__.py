"""What the scoring app tells about itself: histograms, predictions and request metrics.

A :class:`stk_ml.telemetry.recorder.Recorder` per deployment takes rows and requests, a
:class:`stk_ml.telemetry.flusher.Flusher` per process writes what they add up to, once per window, to a
:class:`stk_ml.telemetry.protocol.PredictionLog`. All values of Properties are text, at most 8,192 characters long.

Every row has ``endpoint, deployment, model, version, digest, worker, shadow`` (true or false), ``window_start,
window_end`` (ISO 8601 with Z), and the time of its window's end, if not said otherwise. JSON is marked with (J).

AppEvents, by Name:

- ``stk.histogram``: per column, and one for the score. ``feature``, ``kind`` (integer, number, boolean, category or
  score), ``counts`` (J: list, the bins of profile.json), ``below, above, missing, other, unseen, rows``. On a laptop
  those of past hours are added up by quarters of an hour (:mod:`stk_ml.telemetry.sums`), ``worker`` empty for several.
- ``stk.predictions``: lists of equal length, one entry per row: ``ids`` (J: request ids), ``scores`` (J), ``times``
  (J: milliseconds since window_start), and, where a row has one, ``row_ids`` (J).
- ``stk.row``: a sampled row at its own time, OperationId the request id: ``row_id, score, values`` (J: object of column
  and value, null for missing), ``unseen`` (J: list of category columns whose value training has not seen), ``part``:
  rows of many columns are told in several events.
- ``stk.counted``: values that the model's policy let pass: ``what, column, rows``.
- ``stk.shadow``: shadow minus live scores: ``rows, mean, mean_absolute, max, squares`` (sum of squares), and ``p50,
  p90, p99`` of the absolute difference.
- ``stk.dropped``: what is missing here. ``what`` is ``buffer`` (the background was behind: ``rows, mistakes``) or
  ``queue`` (the log was down: ``batches, events, requests, metrics, rows``; of a whole worker, with no deployment).
- ``stk.verdict``: a look of monitoring at a window, at the time of the look, once per look; ``worker`` is empty.
  ``answer`` (drift, stable or insufficient), ``alarm, broken, armed`` (true or false), ``rows``, ``spent`` (share of
  the yearly false-alarm budget), ``drifted`` (J: columns that the model uses, and ``score``), ``worse`` (J: metrics
  that labels show to be worse), ``findings`` (J: lists of check, column and detail of what is broken) and ``reason``
  (for people, at most 1,024 characters). Each list holds the first 20, or fewer where their texts are long.
  Measurements: ``rows`` and ``spent``. Alert rules fire on the rows of ``kql/alarms.kql``.

AppMetrics, by Name:

- ``stk.requests``: milliseconds, per ``route, status, reason``; ``latency`` (J: object of bin and count, see
  :data:`stk_ml.telemetry.latency.EDGES`).
- ``stk.scores``: the scores; ``squares`` is their sum of squares.

AppRequests: failed requests up to a bound per window, and a sample of the answered ones, at their own time; ``reason``.
"""
