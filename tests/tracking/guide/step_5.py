"""Step 5 of the MLflow setup guide, call for call: each component.

The guide never ends this run, and neither does this script.
"""

from pathlib import Path

import numpy as np
import xgboost

from steps.tracking.mlflow_logger import MLflowLogger

# -- what the guide leaves out: a model that is trained, plots, a configuration --------------------

random = np.random.default_rng(0)
X = random.normal(size=(200, 3))
trained_model = xgboost.XGBClassifier(n_estimators=5).fit(X, X[:, 0] > 0)
for plot in ("accuracy", "confusion_matrix", "feature_importance"):
    Path("results/plots").mkdir(parents=True, exist_ok=True)
    Path(f"results/plots/{plot}.png").write_bytes(b"\x89PNG")
Path("config").mkdir()
Path("config/model_config.yaml").write_text("max_depth: 6\n")
epochs = iter(range(100))


def train_one_epoch() -> np.float64:
    return np.float64(1 / (1 + next(epochs)))


def validate() -> np.float32:
    return np.float32(0.5)


# Step 4, with the default backend
logger = MLflowLogger(experiment_name="stock_prediction")

# -- the guide -----------------------------------------------------------------------------------

# A. Feature Snapshot ID
features = {
    "feature_count": 23,
    "feature_names": ["price", "volume", "rsi", "macd"],
    "version": "1.0",
}
snapshot_id = logger.log_feature_snapshot(features)
# Returns: "abc123def456..." (MD5 hash)
print(snapshot_id)

# B. Hyperparameters
logger.log_params(
    learning_rate=0.1,  # How much to adjust weights
    max_depth=6,  # Tree depth limit
    n_estimators=100,  # Number of trees
    subsample=0.8,  # Sample 80% of data per tree
    colsample_bytree=0.8,  # Use 80% of features per tree
)

# C. Metrics
# Log final metrics
logger.log_metrics(
    accuracy=0.92,  # Overall correct predictions
    precision=0.89,  # Of bullish predictions, how many were correct
    recall=0.85,  # Of actual bullish cases, how many were caught
    f1=0.87,  # Harmonic mean of precision & recall
    auc_roc=0.95,  # Area under ROC curve (0.5-1.0, higher=better)
)

# Log step-based metrics (training progress)
for epoch in range(100):
    loss = train_one_epoch()
    accuracy = validate()
    logger.log_step_metrics(
        step=epoch,
        train_loss=loss,
        val_accuracy=accuracy,
    )

# D. Artifacts
# Log model file
logger.log_model(
    model=trained_model,
    model_path="models/xgboost.pkl",
    model_type="xgboost",
)

# Log plots directory
logger.log_artifacts("results/plots/")
# Logs: accuracy.png, confusion_matrix.png, feature_importance.png

# Log config file
logger.log_artifact_file("config/model_config.yaml")

# Log JSON results
logger.log_dict_artifact(
    {
        "best_threshold": 0.5,
        "backtest_sharpe": 1.23,
        "max_drawdown": -0.15,
    },
    "results.json",
)
