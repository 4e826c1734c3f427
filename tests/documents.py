"""Documents whose commands are run: their blocks, and the place where a reader would run them."""

import re
from dataclasses import dataclass


def commands_of(block: str) -> list[str]:
    """Return a block's commands, one a line, without comments."""
    lines = [line.split(" #")[0].strip() for line in block.splitlines()]
    return [line for line in lines if line]


@dataclass(frozen=True)
class Document:
    """A page, or a section of one."""

    text: str

    def blocks(self, language: str) -> list[str]:
        """Return what stands in fences of a language."""
        return re.findall(rf"^```{language}\n(.*?)^```", self.text, flags=re.MULTILINE | re.DOTALL)

    def commands(self) -> list[str]:
        """Return all commands, one a line."""
        return [command for block in self.blocks("bash") for command in commands_of(block)]

    def sessions(self) -> list[tuple[list[str], list[str]]]:
        """Return each block of commands with the lines of output that are shown right below."""
        found = re.findall(
            r"^```bash\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?",
            self.text,
            flags=re.MULTILINE | re.DOTALL,
        )
        return [(commands_of(block), output.splitlines()) for block, output in found]

    def sections(self) -> dict[str, "Document"]:
        """Return the parts of a page by the titles of second level."""
        _, *parts = re.split(r"^## ", self.text, flags=re.MULTILINE)
        return {part.partition("\n")[0]: Document(part.partition("\n")[2]) for part in parts}

    def links(self) -> list[str]:
        """Return where the links lead."""
        return re.findall(r"\]\(([^)]+)\)", self.text)
