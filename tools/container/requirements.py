"""Print the requirements of pyproject.toml and of the extras named as arguments, one per line.

The image installs them before the sources are copied, so that code changes keep that layer.
"""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
extras = project["optional-dependencies"]
if unknown := set(sys.argv[1:]) - set(extras):
    sys.exit(f"no such extra in pyproject.toml: {', '.join(sorted(unknown))}; there are {', '.join(extras)}")
for requirement in project["dependencies"] + [line for name in sys.argv[1:] for line in extras[name]]:
    print(requirement)
