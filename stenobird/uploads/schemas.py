"""The body that announces a file before it is uploaded."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from stenobird.bodies import RequestBody, example

MAX_FILENAME_CHARS: Final = 255
MAX_SIZE_BYTES: Final = 2**53 - 1
"""The largest integer that every JSON reader keeps whole; settings decide what is accepted."""


class CreateUpload(RequestBody):
    """A file to upload. Unknown fields are ignored."""

    model_config = example({"filename": "lecture.mp3", "content_type": "audio/mpeg", "size_bytes": 2048})

    filename: Annotated[
        str,
        Field(
            min_length=1,
            max_length=MAX_FILENAME_CHARS,
            description="Original media filename.",
            examples=["lecture.mp3"],
        ),
    ]
    content_type: Annotated[
        str, Field(min_length=1, max_length=255, description="MIME type.", examples=["audio/mpeg"])
    ]
    size_bytes: Annotated[
        int, Field(ge=1, le=MAX_SIZE_BYTES, description="Media file size in bytes.", examples=[2048])
    ]
