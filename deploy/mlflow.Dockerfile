# The locked environment: MLflow's server in compose.yaml, and what the steps run in on Kubernetes.
#
#     docker build --file deploy/mlflow.Dockerfile --tag candlewick-mlflow:0.1.0 .
FROM python:3.11.15-slim-trixie

ENV PYTHONUNBUFFERED=1 MLFLOW_DISABLE_TELEMETRY=true

COPY --chmod=0644 requirements.lock /opt/candlewick/
RUN python -m pip install --no-cache-dir --no-deps --require-hashes \
    --requirement /opt/candlewick/requirements.lock
COPY --chmod=0644 deploy/prepare.py /opt/candlewick/

RUN useradd --uid 10001 --home-dir /tmp --no-create-home candlewick
USER 10001:10001
EXPOSE 5000
