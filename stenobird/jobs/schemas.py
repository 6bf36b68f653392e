"""What a client may ask of a new transcript, and how a wrong wish is refused."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

from stenobird.errors import InvalidRequest
from stenobird.ports import RecognitionOptions

MAX_URL_CHARS: Final = 8192
MAX_PROMPT_CHARS: Final = 1000
"""About as much as the 223 tokens that Whisper reads of a prompt."""

_LANGUAGE_CODES: Final = (
    # Whisper's own: ISO 639-1, but for haw, jw and yue.
    "af am ar as az ba be bg bn bo br bs ca cs cy da de el en es et eu fa fi fo fr gl gu ha haw he hi "
    "hr ht hu hy id is it ja jw ka kk km kn ko la lb ln lo lt lv mg mi mk ml mn mr ms mt my ne nl nn "
    "no oc pa pl ps pt ro ru sa sd si sk sl sn so sq sr su sv sw ta te tg th tk tl tr tt uk ur uz vi "
    "yi yo yue zh"
)
LANGUAGES: Final = frozenset(_LANGUAGE_CODES.split())
_LANGUAGE_ALIASES: Final = {"jv": "jw", "nb": "no", "iw": "he", "in": "id"}
"""Codes that clients send for languages that Whisper knows under another."""

_URL = Annotated[str, StringConstraints(max_length=MAX_URL_CHARS)]
_Id = Annotated[str, StringConstraints(max_length=64)]


class CreateTranscript(BaseModel):
    """The body of `POST /v1/transcripts`. Unknown fields are ignored; wrong types are refused by name.

    Make it with `parse`; the constructor raises pydantic's error instead of ours.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    audio_url: Annotated[
        _URL | None,
        Field(description="Any public URL with audio behind it.", examples=["https://example.com/a.mp3"]),
    ] = None
    upload_id: Annotated[
        _Id | None,
        Field(description="A file that was uploaded, instead of audio_url; needs an API key."),
    ] = None
    language: Annotated[
        str | None, Field(description="ISO 639-1 code of what is spoken; left out, it is detected.")
    ] = None
    prompt: Annotated[
        str | None,
        Field(max_length=MAX_PROMPT_CHARS, description="Names and terms that are likely to be spoken."),
    ] = None
    word_timestamps: Annotated[bool, Field(description="Whether each word gets its own times.")] = False
    task: Annotated[
        Literal["transcribe", "translate"], Field(description="translate writes English whatever is spoken.")
    ] = "transcribe"
    webhook_url: Annotated[
        _URL | None,
        Field(description="The https address that the end of the job is announced to; needs an API key."),
    ] = None
    preview_id: Annotated[
        _Id | None, Field(description="A finished preview of the same URL to carry on from.")
    ] = None

    @field_validator("language", mode="after")
    @classmethod
    def _known_language(cls, value: str | None) -> str | None:
        if value is None or value.strip().lower() in {"", "auto"}:
            return None
        code = value.strip().lower()
        code = _LANGUAGE_ALIASES.get(code, code)
        if code not in LANGUAGES:
            raise ValueError('must be an ISO 639-1 code such as "en" or "he"; leave it out to detect it')
        return code

    @property
    def options(self) -> RecognitionOptions:
        """The wishes that concern recognition."""
        return RecognitionOptions(
            language=self.language,
            prompt=self.prompt or None,
            word_timestamps=self.word_timestamps,
            task=self.task,
        )

    @classmethod
    def parse(cls, body: object) -> CreateTranscript:
        """Return the request that a decoded JSON body is. Raises `InvalidRequest` that names the field."""
        if not isinstance(body, dict):
            raise InvalidRequest
        if body.get("audio_url") is None and body.get("upload_id") is None:
            raise InvalidRequest(details={"field": "audio_url"})
        try:
            request = cls.model_validate(body)
        except ValidationError as exc:
            raise _refusal(exc) from exc
        if request.audio_url is not None and request.upload_id is not None:
            raise InvalidRequest('Send "audio_url" or "upload_id", not both.', details={"field": "upload_id"})
        if request.preview_id is not None and request.upload_id is not None:
            raise InvalidRequest(
                '"preview_id" carries on from a preview of an "audio_url"; leave it out with "upload_id".',
                details={"field": "preview_id"},
            )
        return request


def _refusal(exc: ValidationError) -> InvalidRequest:
    problem: Any = exc.errors(include_url=False, include_input=False)[0]
    name = str(problem["loc"][0]) if problem["loc"] else "body"
    reason = str(problem["msg"]).removeprefix("Value error, ")
    reason = reason[:1].lower() + reason[1:]
    return InvalidRequest(f'"{name}" is not valid: {reason}.', details={"field": name})
