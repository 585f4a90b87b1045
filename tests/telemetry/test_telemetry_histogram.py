from __future__ import annotations

from functools import reduce
from operator import add
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from telemetry_rigs import KINDS, bins_of, column, matrix_of

from stk_ml.artifact.profile import Profile
from stk_ml.artifact.schema import FeatureField, FeatureSchema, to_matrix
from stk_ml.errors import ArtifactError, StorageError
from stk_ml.telemetry.histogram import FeatureBins
from stk_ml.training.profile import profile
from stk_ml.training.splits import SplitParts

BINS = bins_of()
VALUES = st.one_of(st.floats(width=64), st.sampled_from([-1.0, 0.0, 1.0, 2.0, 5.0, 100.0, np.nan]))
MATRICES = hnp.arrays(np.float64, st.tuples(st.integers(0, 60), st.just(4)), elements=VALUES)


@given(MATRICES)
@settings(max_examples=100)
def test_every_row_falls_into_exactly_one_cell_of_every_column(matrix: np.ndarray) -> None:
    counts = BINS.count(matrix, matrix[:, 0])
    assert {column.rows for column in BINS.histograms(counts)} == {len(matrix)}


@given(MATRICES, st.lists(st.integers(0, 60), max_size=4))
@settings(max_examples=100)
def test_histograms_of_parts_add_up_to_that_of_the_whole(matrix: np.ndarray, cuts: list[int]) -> None:
    parts = [BINS.count(part, part[:, 1]) for part in np.split(matrix, sorted(min(cut, len(matrix)) for cut in cuts))]
    whole = BINS.count(matrix, matrix[:, 1])
    assert list(BINS.histograms(reduce(add, parts))) == list(BINS.histograms(whole))


def test_cells_are_those_that_a_plain_count_gives(generator: np.random.Generator) -> None:
    matrix = matrix_of(5000, generator)
    km, stops, express, kind, _ = BINS.histograms(BINS.count(matrix))
    values = matrix[:, 0][~np.isnan(matrix[:, 0])]
    assert list(km.counts) == np.histogram(values, np.linspace(0, 100, 21))[0].tolist()
    assert (km.below, km.above) == ((values < 0).sum(), (values > 100).sum())
    among = [(matrix[:, 1] >= low) & (matrix[:, 1] < high) for low, high in ((0, 1), (1, 2), (2, 5), (5, 6))]
    assert stops.counts == tuple(rows.sum() for rows in among)
    assert express.counts == ((matrix[:, 2] == 0).sum(), (matrix[:, 2] == 1).sum())
    codes = matrix[:, 3]
    assert kind.counts == tuple((codes == KINDS.index(name)).sum() for name in ("air", "road", "sea"))
    assert kind.other == (codes == KINDS.index("rail")).sum()
    assert kind.unseen == (codes == -1).sum()
    assert {c.missing for c in (km, kind)} == {np.isnan(matrix[:, 0]).sum(), np.isnan(codes).sum()}


def test_a_served_row_falls_into_the_cell_that_training_counted_it_in(generator: np.random.Generator) -> None:
    rows = 4000
    kinds = [f"k{place}" for place in generator.zipf(1.3, rows) % 80]
    kinds[-50:] = ["new"] * 50
    table = pa.table(
        {
            "km": pa.array(generator.normal(0, 1, rows), mask=generator.random(rows) < 0.1),
            "stops": generator.poisson(2, rows),
            "express": pa.array(generator.random(rows) < 0.3, mask=generator.random(rows) < 0.1),
            "kind": pa.array(kinds, mask=generator.random(rows) < 0.1),
        }
    )
    schema = FeatureSchema(
        (
            FeatureField("km", "number"),
            FeatureField("stops", "integer"),
            FeatureField("express", "boolean"),
            FeatureField("kind", "category", tuple(sorted(set(kinds) - {"new"}))),
        )
    )
    encoded, scores = schema.encode(table), generator.random(1000)
    parts = SplitParts(np.arange(2000), np.arange(2000, 3000), np.arange(3000, rows))
    reference = profile(schema, table, encoded, generator.random(rows), scores, parts, None)
    matrix = to_matrix(encoded)
    unseen = table["kind"].is_valid().to_numpy() & np.isnan(matrix[:, 3])
    matrix[unseen, 3] = -1.0
    bins = FeatureBins(schema, reference)
    *found, score = bins.histograms(bins.count(matrix, scores))
    for histogram, past in zip([*found, score], [*reference.features, reference.score], strict=True):
        assert histogram.counts == past.counts[0]
        beside = ("below", "above", "missing", "other", "unseen")
        assert [getattr(histogram, name) for name in beside] == [getattr(past, name)[0] for name in beside]
    kind = found[3]
    assert min(kind.missing, kind.other, kind.unseen) > 0


def test_codes_that_no_schema_gives_count_as_unseen() -> None:
    matrix = np.array([[0.0, 0.0, 0.0, code] for code in (99.0, np.inf, -np.inf, -7.0)])
    *_, kind, _ = BINS.histograms(BINS.count(matrix))
    assert kind.unseen == 4


def test_rows_in_any_memory_order_count_the_same(generator: np.random.Generator) -> None:
    matrix = matrix_of(100, generator)
    first = BINS.count(np.asfortranarray(matrix)).cells
    assert (first == BINS.count(matrix).cells).all()
    assert (first == BINS.count(np.repeat(matrix, 2, axis=0)[::2]).cells).all()


def test_a_number_without_a_reference_counts_outside() -> None:
    schema = FeatureSchema((FeatureField("x", "number"),))
    bins = FeatureBins(schema, Profile(("all",), {}, (), (column("x"),), ("all",), column("score")))
    x, score = bins.histograms(bins.count(np.array([[1.0], [-1.0], [np.nan]]), np.array([0.5])))
    assert (x.counts, x.below, x.above, x.missing) == ((), 1, 1, 1)
    assert score.rows == 1


def test_a_profile_of_other_columns_is_refused() -> None:
    schema = FeatureSchema((FeatureField("y", "number"),))
    with pytest.raises(ArtifactError, match="profile"):
        FeatureBins(schema, Profile(("all",), {}, (), (column("x"),), ("all",), column("score")))


def test_a_folder_that_is_no_artifact_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"model\.json"):
        FeatureBins.from_artifact(tmp_path)
