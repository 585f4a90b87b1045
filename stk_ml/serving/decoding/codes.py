"""The codes of a category column's values, looked up by text or by whole number."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stk_ml.artifact.schema import FeatureField


def codes(field: FeatureField) -> dict[str | int | None, float]:
    """Code of each value of a category: text, the whole number that is written so, and NaN for None.

    Example:
        >>> from stk_ml.artifact.schema import FeatureField
        >>> codes(FeatureField("zone", "category", ("7", "007")))
        {None: nan, '7': 0.0, 7: 0.0, '007': 1.0}
    """
    found: dict[str | int | None, float] = {None: float("nan")}
    for code, text in enumerate(field.categories):
        found.setdefault(text, float(code))
        if len(text) < 20 and text.lstrip("-").isdecimal() and text == str(int(text)):
            found.setdefault(int(text), float(code))
    return found
