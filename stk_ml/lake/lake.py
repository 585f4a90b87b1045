"""The lake: tables by name, in a folder or in Azure storage."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pyarrow.fs
from deltalake.exceptions import TableNotFoundError as NoFolder

from stk_ml.errors import UsageError, closest
from stk_ml.lake.storage import Location
from stk_ml.lake.table import LakeTable

#: raw as it came from the sources; curated by pipelines/features/*.sql; features, ready to train on.
ZONES = ("raw", "curated", "features")
_NAME = re.compile(r"[a-z][a-z0-9_]*")


class Lake:
    """Delta tables in three zones below one URI.

    Args:
        uri: a folder, or az://container[/folder].
        options: how to reach Azure storage, see :data:`stk_ml.lake.storage.KEYS`; never printed.

    Raises:
        UsageError: the URI is of no kind that a lake can have.
        SettingError: an option is unknown or missing.

    Example:
        >>> import tempfile
        >>> import pyarrow as pa
        >>> folder = tempfile.TemporaryDirectory()
        >>> lake = Lake(folder.name)
        >>> lake.table("raw.flights").append(pa.table({"id": [1]}))
        0
        >>> lake.tables()
        ['raw.flights']
    """

    def __init__(self, uri: str, options: Mapping[str, str] | None = None) -> None:
        self._location = Location(str(uri), dict(options or {}))

    @property
    def uri(self) -> str:
        """The absolute folder or the az:// URI."""
        return self._location.uri

    def __repr__(self) -> str:
        return f"Lake({self.uri!r})"

    def table(self, name: str) -> LakeTable:
        """The table ``zone.table``, whether it exists or not.

        Raises:
            UsageError: the name is malformed, or of no zone.
        """
        zone, _, table = name.partition(".")
        if zone not in ZONES:
            raise UsageError(
                f"{name!r} is no table of the lake: it must be ZONE.TABLE",
                hint=f"the zones are {', '.join(ZONES)}; {closest(name, self.tables())}",
            )
        if not _NAME.fullmatch(table):
            raise UsageError(
                f"{name!r} is no table of the lake: {table!r} is not a lower case name",
                hint="use letters a to z, digits and _, with a letter first",
            )
        return LakeTable(name, self._location / zone / table, self.tables)

    def tables(self, zone: str | None = None) -> list[str]:
        """The tables that exist, as ``zone.table``, sorted; of all zones or of one.

        Raises:
            UsageError: there is no such zone.
            StorageError: the lake cannot be listed.
        """
        if zone is not None and zone not in ZONES:
            raise UsageError(f"there is no zone {zone!r} in the lake", hint=f"the zones are {', '.join(ZONES)}")
        names = (f"{each}.{name}" for each in ((zone,) if zone else ZONES) for name in self._folders(each))
        return sorted(name for name in names if self.table(name).exists())

    def _folders(self, zone: str) -> list[str]:
        with self._location.errors(f"list the zone {zone} of the lake"):
            try:
                inside = pyarrow.fs.FileSelector(zone, allow_not_found=True)
                found = self._location.filesystem().get_file_info(inside)
            except (FileNotFoundError, NoFolder):
                return []
        return [info.base_name for info in found if _NAME.fullmatch(info.base_name)]
