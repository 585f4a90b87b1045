"""stk-ml: declare a model once, in files; train, gate, deploy, watch and retrain it on a laptop and on Azure.

Importing this package loads nothing heavy; each name below imports what it needs when it is first used.

Example:
    >>> import stk_ml
    >>> sorted(stk_ml.__all__)
    ['Workspace', '__version__', 'load_model', 'train']
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stk_ml.workspace import Workspace, load_model, train

__version__ = "0.1.0"
__all__ = ["Workspace", "__version__", "load_model", "train"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from stk_ml import workspace

        return getattr(workspace, name)
    raise AttributeError(f"module 'stk_ml' has no attribute {name!r}")
