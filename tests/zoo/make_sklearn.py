"""Exports from scikit-learn by skl2onnx: python make_sklearn.py DIR (pip install scikit-learn skl2onnx).

Neural networks of scikit-learn, alone and in pipelines with what users put before them.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

from skl2onnx import to_onnx
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.ensemble import VotingClassifier
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler


def models() -> dict[str, tuple[Any, dict[str, Any]]]:
    """Return estimators to fit on digits, with options for the converter."""
    plain = {"zipmap": False}
    few = {"max_iter": 5, "random_state": 0}
    return {
        "classifier": (MLPClassifier((100, 50), **few), plain),
        "classifier_tanh": (MLPClassifier((64, 64, 32), activation="tanh", **few), plain),
        "classifier_zipmap": (MLPClassifier((80,), activation="logistic", **few), {}),
        "regressor": (MLPRegressor(hidden_layer_sizes=(128, 64), **few), {}),
        "pipeline": (make_pipeline(StandardScaler(), MLPClassifier((100,), **few)), plain),
        "pca_pipeline": (make_pipeline(MinMaxScaler(), PCA(32), MLPRegressor(hidden_layer_sizes=(64,), **few)), {}),
        "ensemble": (
            VotingClassifier(
                [(f"m{k}", MLPClassifier((n,), **few)) for k, n in enumerate((40, 60))],
                voting="soft",
                flatten_transform=False,
            ),
            plain,
        ),
    }


def main() -> None:
    """Fit and export all models."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    x, y = load_digits(return_X_y=True)
    x = x.astype("float32")
    warnings.simplefilter("ignore")
    for name, (model, options) in models().items():
        target = y.astype("float32") if "regressor" in name or "pca" in name else y
        try:
            model.fit(x, target)
            proto = to_onnx(model, x[:1], options={id(model): options} if options else None, target_opset=15)
            (folder / f"sklearn_{name}.skl15d.onnx").write_bytes(proto.SerializeToString())
            print("made", name)
        except Exception as error:  # whatever a converter raises: the others go on
            print("not made", name, repr(error)[:300])


if __name__ == "__main__":
    main()
