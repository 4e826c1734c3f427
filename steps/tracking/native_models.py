"""Models as files, each in its library's own format and never as a pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

SKOPS_TRUSTED: Final = (
    "sklearn.tree._tree.Tree",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
)
"""What scikit-learn's tree models need beyond the types skops trusts by itself."""

_BOOSTER: Final = "model.ubj"
_ESTIMATOR: Final = "model.skops"


def write_native(model: Any, folder: Path) -> None:
    """Write a model into a folder.

    Parameters
    ----------
    model : xgboost.Booster or scikit-learn estimator
    folder : Path
        Exists; holds one model.
    """
    if hasattr(model, "save_model"):
        model.save_model(folder / _BOOSTER)
        return
    import skops.io

    skops.io.dump(model, folder / _ESTIMATOR)


def read_native(folder: Path) -> Any:
    """Read the model that `write_native` wrote.

    Only types on the list above are loaded, not those the file asks to be trusted.

    Returns
    -------
    xgboost.Booster or scikit-learn estimator
    """
    if (folder / _BOOSTER).exists():
        from xgboost import Booster

        return Booster(model_file=folder / _BOOSTER)
    import skops.io

    return skops.io.load(folder / _ESTIMATOR, trusted=list(SKOPS_TRUSTED))
