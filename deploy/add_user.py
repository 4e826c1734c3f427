"""Give somebody a password for a tracking server that asks for one, and rights.

    MLFLOW_TRACKING_URI=… MLFLOW_TRACKING_USERNAME=admin MLFLOW_TRACKING_PASSWORD=… \
        python deploy/add_user.py alice --may=write

The password is made up and goes to standard output. Needs Python and nothing else.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import secrets
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass

RUNS = dict.fromkeys(("experiment", "run", "logged_model", "trace"), "EDIT")
# Replacing a tag of a version begins with deleting it, and EDIT does not include deleting.
MODELS = {"registered_model": "EDIT", "registered_model_version": "MANAGE"}
RIGHTS = {"read": {}, "write": RUNS, "promote": RUNS | MODELS}
"""What each user gets on top of seeing everything and on owning what they create."""


@dataclass(frozen=True)
class Server:
    """A tracking server with users, and somebody who may add some."""

    address: str
    user: str
    password: str

    def add_user(self, name: str, *, may: str) -> str:
        """Create a user with the rights of one of ``RIGHTS`` to what others have recorded.

        Returns
        -------
        str
            The password.
        """
        password = secrets.token_urlsafe(18)
        self._post("2.0/mlflow/users/create", username=name, password=password)
        for kind, permission in RIGHTS[may].items():
            self._post(
                "3.0/mlflow/users/permissions/grant",
                username=name,
                resource_type=kind,
                resource_id="*",
                permission=permission,
            )
        return password

    def _post(self, path: str, **body: str) -> None:
        login = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        request = urllib.request.Request(  # noqa: S310
            f"{self.address.rstrip('/')}/api/{path}",
            json.dumps(body).encode(),
            {"Authorization": f"Basic {login}", "Content-Type": "application/json"},
        )
        urllib.request.urlopen(request, timeout=30).close()  # noqa: S310


def main() -> None:
    """Be the command."""
    parser = argparse.ArgumentParser(description="Add a user to a tracking server.")
    parser.add_argument("name")
    parser.add_argument("--may", choices=RIGHTS, default="read")
    given = parser.parse_args()
    address, user, password = (
        os.environ.get(f"MLFLOW_TRACKING_{part}", "") for part in ("URI", "USERNAME", "PASSWORD")
    )
    if not address.startswith(("http://", "https://")) or not password:
        sys.exit(
            "add_user: set MLFLOW_TRACKING_URI to the server's address (http://… or https://…), "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to the administrator's"
        )
    try:
        made_up = Server(address, user, password).add_user(given.name, may=given.may)
    except urllib.error.HTTPError as error:
        sys.exit(f"add_user: {address} refused ({error.code}): {error.read().decode()[:500]}")
    except OSError as error:
        sys.exit(f"add_user: {address} does not answer: {error}")
    sys.stdout.write(f"{made_up}\n")


if __name__ == "__main__":
    main()
