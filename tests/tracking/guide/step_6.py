"""Step 6 of the MLflow setup guide, call for call, on real prices: a training run."""

# ruff: noqa: E402, F541 - the guide imports where it needs, and prints as it likes

import hashlib
import json
from datetime import datetime  # the guide forgets this one
from pathlib import Path

import pandas as pd
import xgboost as xgb
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score
from sklearn.model_selection import train_test_split

from steps.market.build import build_snapshot
from steps.market.features import get_feature_set
from steps.market.prices import load_prices
from steps.tracking.mlflow_logger import get_mlflow_logger

# -- what the guide leaves out: the data, and a folder for the plot --------------------------------

Path("results").mkdir()


def load_features_and_targets() -> tuple[pd.DataFrame, pd.Series]:
    prices = load_prices("sample").table
    table = build_snapshot(prices, get_feature_set("core"), horizon=1).table
    known = table[table["direction"].notna()]
    X = known.drop(columns=["date", "symbol", "direction", "label_known_at"])
    return X, known["direction"].astype(int)


# ===================================================================
# PHASE 1: PREPARE
# ===================================================================

# Load features (from feature engineering)
X, y = load_features_and_targets()
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2)

# Create feature snapshot
feature_info = {
    "feature_count": X_train.shape[1],
    "feature_names": list(X.columns),
    "feature_types": {col: str(X[col].dtype) for col in X.columns},
    "version": "1.0",
    "engineer_date": "2026-02-18",
}
snapshot_json = json.dumps(feature_info, sort_keys=True)
snapshot_id = hashlib.md5(snapshot_json.encode()).hexdigest()

# ===================================================================
# PHASE 2: START MLFLOW TRACKING
# ===================================================================

logger = get_mlflow_logger(
    experiment_name="stock_prediction_xgboost",
    run_name=f"xgboost_v1_{datetime.now().strftime('%Y-%m-%d')}",
    model_name="xgboost",
    model_type="xgboost",
    feature_snapshot_id=snapshot_id,
)

# ===================================================================
# PHASE 3: LOG HYPERPARAMETERS & DATASET
# ===================================================================

# Hyperparameters
hyperparams = {
    "learning_rate": 0.1,
    "max_depth": 6,
    "n_estimators": 100,
    "subsample": 0.8,
    "colsample_bytree": 0.8,
    "random_state": 42,
}
logger.log_params(**hyperparams)

# Feature snapshot
logger.log_feature_snapshot(feature_info)

# Dataset statistics
logger.log_dataset_stats(
    {
        "train_size": len(X_train),
        "test_size": len(X_test),
        "feature_count": X_train.shape[1],
        "target_mean": y_train.mean(),
        "class_balance_bullish": (y_train == 1).sum() / len(y_train),
    }
)

# ===================================================================
# PHASE 4: TRAIN MODEL & LOG STEP METRICS
# ===================================================================

model = xgb.XGBClassifier(**hyperparams)

# Training with step-based logging
for epoch in range(10):
    model.fit(
        X_train,
        y_train,
        eval_set=[(X_test, y_test)],
        verbose=0,
    )

    # Predict on validation set
    y_pred = model.predict(X_test)

    # Calculate metrics
    acc = accuracy_score(y_test, y_pred)
    prec = precision_score(y_test, y_pred)
    rec = recall_score(y_test, y_pred)
    f1 = f1_score(y_test, y_pred)

    # Log metrics at this step
    logger.log_step_metrics(
        step=epoch,
        accuracy=acc,
        precision=prec,
        recall=rec,
        f1=f1,
    )

# ===================================================================
# PHASE 5: LOG FINAL METRICS & MODEL
# ===================================================================

# Final test metrics
y_pred_final = model.predict(X_test)
logger.log_metrics(
    accuracy=accuracy_score(y_test, y_pred_final),
    precision=precision_score(y_test, y_pred_final),
    recall=recall_score(y_test, y_pred_final),
    f1=f1_score(y_test, y_pred_final),
)

# Log the trained model
logger.log_model(
    model=model,
    model_path="models/xgboost.pkl",
    model_type="xgboost",
)

# Log plots & artifacts
import matplotlib.pyplot as plt
from sklearn.metrics import confusion_matrix

# Create confusion matrix plot
cm = confusion_matrix(y_test, y_pred_final)
plt.imshow(cm, cmap="Blues")
plt.title("Confusion Matrix")
plt.savefig("results/confusion_matrix.png")

logger.log_artifacts("results/")

# ===================================================================
# PHASE 6: END RUN
# ===================================================================

logger.end_run(status="FINISHED")

print(f"[x] Experiment tracked in MLflow!")
print(f"Run ID: {logger.run_id}")
print(f"View at: http://localhost:5000")

# -- what the guide leaves to the reader: the test set, to ask the stored model again --------------

X_test.assign(y_test=y_test, y_pred=y_pred_final).to_parquet("test_set.parquet")
