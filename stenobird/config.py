"""The service's settings: read once, at an entry point, from `STENOBIRD_*` and a `.env` file."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


class Settings(BaseSettings):
    """Everything an operator can set. A field is set by `STENOBIRD_<NAME>`; its description is its manual."""

    model_config = SettingsConfigDict(
        env_prefix="STENOBIRD_", env_file=".env", env_file_encoding="utf-8", frozen=True, extra="ignore"
    )

    host: str = Field("127.0.0.1", description="Address the web server listens on.")
    port: int = Field(8000, ge=0, le=65535, description="Port the web server listens on; 0 picks a free one.")
    public_url: str | None = Field(
        None, description="URL at which clients reach the service; unset: links use the host of the request."
    )
    trusted_proxies: str = Field(
        "127.0.0.1", description="Peers whose X-Forwarded-* headers are trusted: addresses, networks, or *."
    )
    data_dir: Path = Field(
        Path("~/.local/share/stenobird"), description="Folder for the database, spools and uploads."
    )
    database_url: SecretStr | None = Field(
        None, description="SQLAlchemy URL, postgresql+asyncpg://…; unset: SQLite in the data folder."
    )
    redis_url: SecretStr | None = Field(
        None, description="Redis or Valkey for wake-ups and rate limits; unset: per process."
    )

    engine: Literal["auto", "whisper", "offline"] = Field(
        "auto", description="Speech engine; auto: whisper, or pocketsphinx if no model can be loaded."
    )
    model: str = Field("auto", description="Whisper model: auto, a name on the hub, or a folder.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Device that runs the model.")
    compute_type: str = Field(
        "auto", description="CTranslate2 compute type; auto: int8 (CPU), float16 (CUDA)."
    )
    replicas: int | None = Field(
        None,
        ge=1,
        description="Replicas of each model on CPU, tiers included; unset: one per core of the affinity "
        "mask and cgroup. They share the weights; each busy one needs some 200 MB (base).",
    )
    offline_for_paid: bool = Field(default=False, description="Whether paid jobs may use the offline engine.")
    window_timeout_seconds: float = Field(120.0, gt=0, description="Time limit of one speech window.")

    translation_model: str = Field(
        "", description="NLLB or M2M-100 translation model: a name on the hub or a folder; empty: none."
    )
    translation_device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Device that runs the translation model."
    )
    translation_compute_type: str = Field(
        "auto", description="Its CTranslate2 compute type; auto: int8 (CPU), float16 (CUDA)."
    )
    translation_timeout_seconds: float = Field(
        120.0, gt=0, description="Time limit for translating one window."
    )

    speaker_model: str = Field(
        "", description="Models that label speakers: auto, which downloads 81 MB, or a folder; empty: none."
    )

    egress_allow: Annotated[tuple[IPNetwork, ...], NoDecode] = Field(
        (), description="Extra networks that outgoing requests may reach, comma-separated CIDRs."
    )
    egress_ports: Annotated[frozenset[int] | None, NoDecode] = Field(
        frozenset({80, 443, 8000, 8080, 8443}),
        description="Ports that outgoing requests may use, comma-separated; * for all.",
    )
    egress_proxy: str | None = Field(
        None, description="Upstream CONNECT proxy for all outgoing media traffic; it resolves the names."
    )

    podcast_index_key: SecretStr | None = Field(
        None, description="Key for the Podcast Index API; without it that directory is not asked."
    )
    podcast_index_secret: SecretStr | None = Field(None, description="The secret that belongs to that key.")

    stripe_secret_key: SecretStr | None = Field(
        None, description="Stripe's secret or restricted key; unset: nobody can buy, the operator makes keys."
    )
    stripe_webhook_secret: SecretStr | None = Field(
        None, description="Signing secrets of the Stripe webhook destinations, comma-separated."
    )
    stripe_price_id: str | None = Field(
        None, description='The weekly metered price; "stenobird billing setup" makes one and prints it.'
    )
    stripe_meter_event_name: str = Field(
        "stenobird_audio_minutes", description="Event name of the Stripe meter that counts minutes."
    )
    stripe_portal_configuration_id: str | None = Field(
        None, description="Configuration of Stripe's customer portal; unset: the Stripe account's own."
    )
    stripe_api_base: str = Field(
        "https://api.stripe.com", description="URL of Stripe's API; for tests against a fake."
    )

    smtp_url: SecretStr | None = Field(
        None, description="Mail server for key recovery, smtps://user:password@host; unset: no mail."
    )
    smtp_from: str | None = Field(None, description="Sender address of these mails.")

    api_prefix: str = Field("", description="Path before /api/v1, in its URL and in its links.")
    upload_store_url: str | None = Field(
        None, description="s3://bucket/prefix for uploads; unset: the data folder. Credentials: AWS_*."
    )
    upload_store_endpoint: str | None = Field(
        None, description="URL of an S3-compatible service; unset: Amazon S3."
    )
    upload_quota_bytes: int = Field(
        50 * 1024**3, gt=0, description="Bytes that all uploads together may use."
    )
    upload_account_quota_bytes: int = Field(
        10 * 1024**3, gt=0, description="Bytes that the uploads of one account may use."
    )
    model_standard: str | None = Field(
        None, description="Model of the tier standard; unset: STENOBIRD_MODEL."
    )
    model_fast: str | None = Field(
        None, description="Model of the tier fast_low_cost; unset: STENOBIRD_MODEL."
    )
    model_premium: str | None = Field(
        None,
        description="Model of the tier premium_quality, which then costs 2 units; unset: STENOBIRD_MODEL.",
    )

    max_audio_seconds: float = Field(6 * 3600.0, gt=0, description="Longest audio of a job.")
    max_audio_bytes: int = Field(2 * 1024**3, gt=0, description="Largest media file of a job.")
    previews_per_minute: int = Field(
        60, ge=1, description="Previews per minute and client address (IPv6: per /64 network)."
    )
    premium_requests_per_minute: int = Field(
        30, ge=1, description="Requests per minute that create a transcript, for an account of tier premium."
    )
    platinum_requests_per_minute: int = Field(
        60, ge=1, description="The same for an account of tier platinum."
    )
    jobs_per_account: int = Field(
        50, ge=1, description="Unfinished transcripts of a premium account; platinum: twice as many."
    )
    max_queued: int = Field(100, ge=0, description="Jobs in the queue; more are refused with queue_busy.")
    max_running: int = Field(4, ge=1, description="Jobs that one worker runs at the same time.")
    preview_seconds: float = Field(15.0, gt=0, description="Audio that a preview transcribes.")
    live_default_minutes: int = Field(
        60, ge=1, description="Minutes of live audio in a job that names no max_minutes."
    )
    live_max_minutes: int = Field(240, ge=1, description="The highest max_minutes of a job.")
    live_max_running: int = Field(
        5, ge=1, description="Jobs with live audio that one worker runs at once, besides max_running."
    )
    spool_quota_bytes: int = Field(20 * 1024**3, gt=0, description="Disk space of all spools together.")
    retention_days: float = Field(30.0, gt=0, description="Days until finished transcripts are deleted.")

    openai_retry_seconds: float = Field(
        120.0,
        ge=0,
        description="How long a job of /v1/audio goes on when its client has disconnected; a retry joins it.",
    )
    sse_ping_seconds: float = Field(15.0, gt=0, description="Silence after which a stream sends a ping.")
    streams_per_key: int = Field(
        1000, ge=1, description="Event streams that a process keeps open for one API key; more get 429."
    )
    streams_per_address: int = Field(
        100, ge=1, description="The same for one client address, of streams that are read without a key."
    )
    send_timeout_seconds: float = Field(
        30.0, gt=0, description="A client that reads no byte for so long is disconnected."
    )
    grace_seconds: float = Field(20.0, ge=0, description="Time to commit and release jobs at shutdown.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Lowest level logged."
    )
    log_format: Literal["auto", "console", "json"] = Field(
        "auto", description="Format of the log; auto: console on a terminal, else json."
    )

    @field_validator("egress_allow", mode="before")
    @classmethod
    def _split_networks(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(ipaddress.ip_network(part.strip()) for part in value.split(",") if part.strip())
        return value

    @field_validator("egress_ports", mode="before")
    @classmethod
    def _split_ports(cls, value: object) -> object:
        if isinstance(value, str):
            if value.strip() == "*":
                return None
            return frozenset(int(part) for part in value.split(",") if part.strip())
        return value

    @field_validator("data_dir")
    @classmethod
    def _expand(cls, value: Path) -> Path:
        return value.expanduser()

    @field_validator("api_prefix")
    @classmethod
    def _as_path(cls, value: str) -> str:
        path = "/".join(part for part in value.split("/") if part)
        if not re.fullmatch(r"[A-Za-z0-9._~/-]*", path) or ".." in path:
            raise ValueError("must be a path of letters, digits, dots, hyphens and slashes")
        return f"/{path}" if path else ""

    @field_validator("public_url")
    @classmethod
    def _no_trailing_slash(cls, value: str | None) -> str | None:
        return value.rstrip("/") if value else None
