"""Step 3 of the MLflow setup guide, call for call: basic usage."""

from pathlib import Path

import numpy as np
import xgboost

from steps.tracking.mlflow_logger import get_mlflow_logger

# -- what the guide leaves out: a trained model, plots, the other features' names ----------------

random = np.random.default_rng(0)
X = random.normal(size=(200, 3))
trained_xgboost_model = xgboost.XGBClassifier(n_estimators=5).fit(X, X[:, 0] > 0)
Path("results/plots").mkdir(parents=True)
Path("results/plots/accuracy.png").write_bytes(b"\x89PNG")
others = [f"feature_{number}" for number in range(4, 24)]

# -- the guide -----------------------------------------------------------------------------------

# Start experiment tracking
logger = get_mlflow_logger(
    experiment_name="stock_prediction_xgboost",
    run_name="xgboost_v1_2026-02-18",
    model_name="xgboost",
    model_type="xgboost",
    feature_snapshot_id="abc123def456...",
)

# Log hyperparameters
logger.log_params(
    learning_rate=0.1,
    max_depth=6,
    n_estimators=100,
    subsample=0.8,
)

# Log metrics
logger.log_metrics(
    accuracy=0.92,
    precision=0.89,
    recall=0.85,
    f1=0.87,
    auc_roc=0.95,
)

# Log feature snapshot
features = {
    "feature_count": 23,
    "feature_names": ["price", "volume", "rsi", *others],
    "feature_types": {"price": "float", "volume": "int", "rsi": "float"},
    "version": "1.0",
    "engineer_date": "2026-02-18",
}
logger.log_feature_snapshot(features)

# Log dataset stats
stats = {
    "train_size": 1000,
    "val_size": 200,
    "test_size": 200,
    "feature_count": 23,
    "target_mean": 0.52,
}
logger.log_dataset_stats(stats)

# Log trained model
logger.log_model(
    model=trained_xgboost_model,
    model_path="models/xgboost.pkl",
    model_type="xgboost",
)

# Log artifacts (plots, reports)
logger.log_artifacts("results/plots/")

# End the run
logger.end_run(status="FINISHED")
