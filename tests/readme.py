"""The README's examples, made by running what it says; `python -m tests.readme --update` writes them anew."""

from __future__ import annotations

import re
import shlex
import sys
import tempfile
from pathlib import Path

from click.testing import CliRunner

from leastway.cli.group import cli

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
_SHOWN = "default/networkpolicy-emailservice.yaml"


def commands() -> list[str]:
    """The shell commands of the README, a line each."""
    return [line for block in re.findall(r"```sh\n(.*?)```", README.read_text(), re.S) for line in block.splitlines()]


def generate_arguments() -> list[str]:
    """The arguments of `leastway generate` in the first command, without the output folder."""
    last = commands()[0].split("&&")[-1]
    words = shlex.split(last)
    return words[words.index("generate") + 1 : words.index("-o")]


def examples() -> dict[str, str]:
    """What the README shows, by the name in its markers."""
    arguments = [str(ROOT / word) if word.startswith("sample_flows/") else word for word in generate_arguments()]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "policies"
        result = CliRunner().invoke(cli, ["generate", *arguments, "-o", str(out)])
        if result.exit_code:
            raise SystemExit(result.output)
        return {
            "generate": f"```text\n{result.stdout.replace(str(out), 'policies')}```",
            "policy": f"```yaml\n# policies/{_SHOWN}\n{(out / _SHOWN).read_text()}```",
        }


def updated() -> str:
    """The README with its examples made anew."""
    text = README.read_text()
    for name, example in examples().items():
        pattern = rf"(<!-- example: {name} -->\n).*?(\n<!-- end -->)"
        text = re.sub(pattern, lambda match, shown=example: match[1] + shown + match[2], text, flags=re.S)  # type: ignore[misc]
    return text


if __name__ == "__main__":
    if "--update" in sys.argv:
        README.write_text(updated())
    elif updated() != README.read_text():
        sys.exit("README.md is out of date; run `python -m tests.readme --update`")
