"""Where the pieces of a large job are worked on: this machine's cores, or other machines."""


class ClusterError(RuntimeError):
    """The cluster cannot do the work; the message says why, and what to do."""
