"""Which version is champion, without importing MLflow.

Importing MLflow takes seconds, and a pipeline run whose steps are all cached asks only this. So its SQLite file is
read with :mod:`sqlite3`; whatever is not as expected is answered with "ask MLflow".
"""

from __future__ import annotations

import contextlib
import sqlite3

from stk_ml.contracts import Champion
from stk_ml.registry import tags
from stk_ml.registry.store import database

_CHAMPION = """
    SELECT alias.version, tag.value
    FROM registered_model_aliases AS alias
    JOIN model_versions AS version USING (workspace, name, version)
    LEFT JOIN model_version_tags AS tag
      ON tag.workspace = alias.workspace AND tag.name = alias.name AND tag.version = alias.version AND tag.key = ?
    WHERE alias.workspace = 'default' AND alias.name = ? AND alias.alias = ?
"""


def champion(tracking_uri: str, name: str) -> Champion | None:
    """The champion of a model, read from MLflow's SQLite file.

    Args:
        tracking_uri: of the MLflow store.
        name: of the model.

    Returns:
        A champion with version 0 when the file does not exist yet or the model has no champion. None when MLflow has
        to be asked: the store is no SQLite file, its tables are not the expected ones, it is locked or damaged.

    Example:
        >>> champion("sqlite:////no/such/mlflow.db", "flight-delay")
        Champion(name='flight-delay', version=0, digest='')
        >>> champion("http://localhost:5000", "flight-delay") is None
        True
    """
    file = database(tracking_uri)
    if file is None:
        return None
    if not file.exists():
        return Champion(name)
    try:
        connection = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=1)
        with contextlib.closing(connection):
            rows = connection.execute(_CHAMPION, (tags.PREFIX + tags.DIGEST, name, tags.CHAMPION)).fetchall()
    except (OSError, sqlite3.Error):
        return None
    if not rows:
        return Champion(name)
    ((version, digest),) = rows
    return Champion(name, int(version), digest) if digest else None
