"""The one door of this package: a request body and its content type become rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stk_ml.serving.decoding import arrow, content, csv_text, shapes
from stk_ml.serving.decoding.careful import parse
from stk_ml.serving.decoding.columns import Assembly, Codec
from stk_ml.serving.decoding.fast import FastDecoder, NeverFast
from stk_ml.serving.decoding.rows import Rows

if TYPE_CHECKING:
    from stk_ml.artifact.schema import FeatureSchema
    from stk_ml.model_policies import ServingSpec


class Decoder:
    """Decodes the bodies of scoring requests for one model. Safe to use from several threads.

    Args:
        schema: the model's columns.
        policy: what becomes of values that break them.
        max_rows: most rows taken at a time.
        max_bytes: most bytes of an Arrow stream once its buffers are not compressed.

    Example:
        >>> from stk_ml.artifact.schema import FeatureField, FeatureSchema
        >>> from stk_ml.model_policies import ServingSpec
        >>> schema = FeatureSchema((FeatureField("km", "number"), FeatureField("kind", "category", ("air", "road"))))
        >>> decoder = Decoder(schema, ServingSpec(), max_rows=1000)
        >>> rows = decoder.decode(b'[{"km": 3, "kind": "road"}, {"km": null, "kind": "sea"}]', "application/json")
        >>> rows.matrix.tolist(), rows.counted
        ([[3.0, 1.0], [nan, -1.0]], {('unseen_category', 'kind'): 1})
    """

    def __init__(
        self, schema: FeatureSchema, policy: ServingSpec, *, max_rows: int, max_bytes: int = 64 * 2**20
    ) -> None:
        self.schema, self.policy, self.max_rows, self.max_bytes = schema, policy, max_rows, max_bytes
        self.codec = Codec(schema)
        fast = FastDecoder(schema, policy, max_rows=max_rows) if FastDecoder.takes(schema) else NeverFast()
        #: See :meth:`FastDecoder.single`.
        self.single, self._many = fast.single, fast.many

    def decode(self, body: bytes, content_type: str = "", *, partial: bool = False, nan: bool = False) -> Rows:
        """The rows of a body.

        Args:
            body: decompressed.
            content_type: of the body; JSON when it is empty.
            partial: whether rows with a rejected value are left out, instead of refusing them all.
            nan: whether the bare word NaN in JSON means missing; see :func:`stk_ml.serving.decoding.careful.parse`.

        Raises:
            RequestError: 400 malformed, 413 too many rows, 415 a content type that is not taken, 422 of another shape.
            InvalidRowsError: 422; values are rejected, and ``partial`` was not asked for.
        """
        kind = content.kind(content_type)
        if kind == "json":
            return self._many(body) or self._table(
                shapes.read(parse(body, self.max_rows, nan=nan), self.schema.names, self.max_rows), partial
            )
        if kind == "csv":
            return self._table(csv_text.read(body, self.schema, self.max_rows), partial)
        table = arrow.read(body, self.max_rows, self.max_bytes)
        assembly = Assembly(self.schema, self.policy, table.num_rows)
        arrow.add(table, assembly)
        return assembly.finish((), partial=partial)

    def _table(self, table: shapes.Table, partial: bool) -> Rows:
        assembly = Assembly(self.schema, self.policy, table.rows)
        assembly.table(table, self.codec)
        return assembly.finish(table.ids, partial=partial)
