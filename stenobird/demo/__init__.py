"""What `stenobird demo` and the tests run on: a bundled clip and the fixture model that understands it.

The model knows 178 words and nothing else; it must never be offered as a speech model. README.md in this
folder says where it came from.
"""

from __future__ import annotations

from pathlib import Path

MODEL_DIR = Path(__file__).parent / "model"
CLIP_PATH = Path(__file__).parent / "clip.mp3"
CLIP_TEXT_PATH = Path(__file__).parent / "clip.txt"
