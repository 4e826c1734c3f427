"""The one error that MLflow's scoring server answers with a 4xx and its own words."""

from mlflow.exceptions import MlflowException


def refusal(message: str) -> MlflowException:
    """Return the error to raise where it is the request that cannot be answered."""
    return MlflowException.invalid_parameter_value(message)
