"""Executes the notebooks anew, in place, each on a fresh kernel: `make notebooks`.

What is written depends on the notebooks and on what they compute, and on nothing else: no times,
no machine, no paths. A notebook that fails, or whose outputs should not be published, stays as it
was.
"""

import base64
import getpass
import io
import os
import re
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from PIL import Image
from traitlets.config import Config

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
SECONDS_PER_CELL = 600
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
_ABSOLUTE_PATH = re.compile(
    r"(?<![\w.:/<])/(?:[\w.@+-]+/)+[\w.@+-]*|file:/|sqlite:////|(?<!\w)[A-Za-z]:\\|(?<!\w)~/"
)
# Names of users and machines that are words or say nothing.
_SAYS_NOTHING = {"root", "user", "admin", "runner", "vm", "host", "localhost"}


def main(arguments: Sequence[str]) -> None:
    """Execute the notebooks named, or all of them, one after the other."""
    for path in map(Path, arguments) if arguments else sorted(FOLDER.glob("*.ipynb")):
        started = time.monotonic()
        notebook = nbformat.read(path, as_version=4)
        try:
            execute(notebook, path.parent)
        except CellExecutionError as error:
            sys.exit(f"{path.name}, cell {failed_cell(notebook)}: {error.ename}: {error.evalue}")
        normalise(notebook)
        if faults := list(find_faults(notebook)):
            sys.exit("\n".join(f"{path.name}, {fault}" for fault in faults))
        text = to_text(notebook)
        path.write_text(text, encoding="utf-8")
        seconds = time.monotonic() - started
        print(f"{path.name}: {seconds:.1f} s, {len(text.encode()) / 1000:.0f} KB", flush=True)


def execute(notebook: NotebookNode, folder: Path) -> None:
    """Execute a notebook's cells on a fresh kernel that starts in a folder."""
    with tempfile.TemporaryDirectory() as settings:
        os.environ |= {
            # Neither kernels nor start-up files of whoever runs this have a say in the outputs,
            "JUPYTER_PREFER_ENV_PATH": "1",
            "IPYTHONDIR": settings,
            # nor has the address of a tracking server a place in them.
            "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        }
        # By file, since a port on loopback can be read by every user of the machine.
        channel = {"transport": "ipc", "connection_file": f"{settings}/kernel.json"}
        NotebookClient(
            notebook,
            timeout=SECONDS_PER_CELL,
            kernel_name="python3",
            config=Config(KernelManager=channel),
            coalesce_streams=True,
            record_timing=False,
            resources={"metadata": {"path": str(folder)}},
        ).execute()


def failed_cell(notebook: NotebookNode) -> str:
    """Return the ID of the cell with an error among its outputs."""
    return next(
        (
            str(cell.id)
            for cell in notebook.cells
            for output in cell.get("outputs", [])
            if output.output_type == "error"
        ),
        "?",
    )


def normalise(notebook: NotebookNode) -> None:
    """Leave out what tells one machine or one day from another, and make pictures small."""
    notebook.metadata = nbformat.from_dict(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({})
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = small_png(output.data["image/png"])


def small_png(encoded: str) -> str:
    """Return a picture with 256 colours: a chart looks the same at a quarter of its size."""
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as picture:
        if picture.mode == "P":
            return encoded
        colours = picture.convert("RGB").quantize(256, Image.Quantize.FASTOCTREE)
    stream = io.BytesIO()
    colours.save(stream, "PNG", optimize=True)
    return base64.b64encode(stream.getvalue()).decode()


def to_text(notebook: NotebookNode) -> str:
    """Return the file's content."""
    return nbformat.writes(notebook).rstrip("\n") + "\n"


def find_faults(notebook: NotebookNode) -> Iterator[str]:
    """Yield what must not be published: gaps, errors, standard error, traces of a machine."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for number, cell in enumerate(code, start=1):
        if cell.execution_count != number:
            yield f"cell {cell.id}: numbered {cell.execution_count}, expected {number}"
        for output in cell.outputs:
            if output.output_type == "error":
                yield f"cell {cell.id}: {output.ename}: {output.evalue}"
            if output.get("name") == "stderr":
                yield f"cell {cell.id}: on standard error: {output.text.strip()}"
            for trace in find_traces(output_text(output)):
                yield f"cell {cell.id}: a trace of this machine: {trace}"


def output_text(output: NotebookNode) -> str:
    """Return all that can be read in an output."""
    if output.output_type == "error":
        return "\n".join(output.traceback)
    if output.output_type == "stream":
        return str(output.text)
    texts = [text for kind, text in output.data.items() if not kind.startswith("image/")]
    return "\n".join(map(str, texts))


def find_traces(text: str) -> list[str]:
    """Return absolute paths, and the names of this machine and its user."""
    found = [match[0] for match in _ABSOLUTE_PATH.finditer(text)]
    names = {socket.gethostname(), getpass.getuser()} - _SAYS_NOTHING
    return found + [name for name in names if re.search(rf"\b{re.escape(name)}\b", text)]


if __name__ == "__main__":
    main(sys.argv[1:])
