"""What `stenobird demo` and the tests run on: a talk for real models, and a fixture model with its clip.

The fixture model knows 178 words and nothing else; it must never be offered as a speech model. README.md in
this folder says where it came from.
"""

from __future__ import annotations

from pathlib import Path

TALK_PATH = Path(__file__).parent / "talk.mp3"
TALK_TEXT_PATH = Path(__file__).parent / "talk.txt"
MODEL_DIR = Path(__file__).parent / "model"
CLIP_PATH = Path(__file__).parent / "clip.mp3"
CLIP_TEXT_PATH = Path(__file__).parent / "clip.txt"
