"""What deploy/ is for, as far as it is there without a container engine, a cluster, a workspace."""
