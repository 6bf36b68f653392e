"""Tests of a built image. They are collected only where STENOBIRD_TEST_IMAGE names one.

`make image && STENOBIRD_TEST_IMAGE=stenobird:cpu .venv/bin/pytest tests/acceptance/image`; CONTAINER_ENGINE
says podman instead of docker.
"""

from __future__ import annotations

import os

collect_ignore = [] if os.environ.get("STENOBIRD_TEST_IMAGE") else ["test_image.py"]
