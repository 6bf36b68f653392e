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
    """Everything an operator can set. Each field is `STENOBIRD_<NAME>`; its description is its manual."""

    model_config = SettingsConfigDict(
        env_prefix="STENOBIRD_", env_file=".env", env_file_encoding="utf-8", frozen=True, extra="ignore"
    )

    host: str = Field("127.0.0.1", description="Address the web server listens on.")
    port: int = Field(8000, ge=0, le=65535, description="Port the web server listens on; 0 picks a free one.")
    public_url: str | None = Field(
        None, description="Where clients reach the service; links use the request's own host where unset."
    )
    trusted_proxies: str = Field(
        "127.0.0.1", description="Peers whose X-Forwarded-* headers count: addresses, networks, or *."
    )
    data_dir: Path = Field(
        Path("~/.local/share/stenobird"), description="Database, spools and uploads of this machine."
    )
    database_url: SecretStr | None = Field(
        None, description="SQLAlchemy URL, postgresql+asyncpg://…; unset: SQLite in the data folder."
    )
    redis_url: SecretStr | None = Field(
        None, description="Redis or Valkey for wake-ups and rate limits; unset: inside the process."
    )

    engine: Literal["auto", "whisper", "offline"] = Field(
        "auto", description="Speech engine; auto is whisper, or pocketsphinx where no model can be had."
    )
    model: str = Field("auto", description="Whisper model: auto, a hub name, or a folder.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where the model runs.")
    compute_type: str = Field(
        "auto", description="CTranslate2 compute type; auto: int8 (CPU), float16 (CUDA)."
    )
    replicas: int | None = Field(
        None,
        ge=1,
        description="Replicas on CPU of each model, the tiers' too; unset: one a core of the affinity "
        "mask and cgroup. They share its weights; each that works needs some 200 MB (base).",
    )
    offline_for_paid: bool = Field(
        default=False, description="Whether paying jobs may use the offline engine."
    )
    window_timeout_seconds: float = Field(120.0, gt=0, description="Watchdog of one speech window.")

    translation_model: str = Field(
        "", description="NLLB or M2M-100 model that translates: a hub name or a folder; empty: none does."
    )
    translation_device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where the translation model runs."
    )
    translation_compute_type: str = Field(
        "auto", description="Its CTranslate2 compute type; auto: int8 (CPU), float16 (CUDA)."
    )
    translation_timeout_seconds: float = Field(
        120.0, gt=0, description="Watchdog of the translation of one window."
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
        None,
        description="Configuration of Stripe's customer portal; unset: the Stripe account's own.",
    )
    stripe_api_base: str = Field(
        "https://api.stripe.com", description="Where Stripe's API is; for tests against a fake."
    )

    smtp_url: SecretStr | None = Field(
        None,
        description="Mail server for links to new keys, smtps://user:password@host; unset: no mail.",
    )
    smtp_from: str | None = Field(None, description="Address that these mails come from.")

    api_prefix: str = Field("", description="Path before /api/v1, in its address and in every link it gives.")
    upload_store_url: str | None = Field(
        None,
        description="s3://bucket/prefix for uploads; unset: in the data folder. Credentials as in AWS_*.",
    )
    upload_store_endpoint: str | None = Field(
        None, description="Address of a service that speaks S3; unset: Amazon's."
    )
    upload_quota_bytes: int = Field(
        50 * 1024**3, gt=0, description="Bytes that all uploads together may use until they are removed."
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

    max_audio_seconds: float = Field(6 * 3600.0, gt=0, description="Longest audio a job may have.")
    max_audio_bytes: int = Field(2 * 1024**3, gt=0, description="Largest media file a job may fetch.")
    previews_per_minute: int = Field(
        60, ge=1, description="Previews that one client address may start a minute; IPv6 counts by /64."
    )
    premium_requests_per_minute: int = Field(
        30, ge=1, description="Requests a minute of an account of tier premium that make a transcript."
    )
    platinum_requests_per_minute: int = Field(
        60, ge=1, description="The same for an account of tier platinum."
    )
    jobs_per_account: int = Field(
        50, ge=1, description="Transcripts of a premium account that may be under way; platinum: twice that."
    )
    max_queued: int = Field(100, ge=0, description="Jobs that may wait; more are refused with queue_busy.")
    max_running: int = Field(4, ge=1, description="Jobs that one worker carries out at once.")
    preview_seconds: float = Field(15.0, gt=0, description="Audio that a preview hears.")
    spool_quota_bytes: int = Field(20 * 1024**3, gt=0, description="Disk that all spools together may use.")
    retention_days: float = Field(30.0, gt=0, description="Age at which stenobird purge removes jobs.")

    sse_ping_seconds: float = Field(15.0, gt=0, description="Silence after which a stream sends a comment.")
    send_timeout_seconds: float = Field(
        30.0, gt=0, description="A reader that takes no byte so long is dropped."
    )
    grace_seconds: float = Field(20.0, ge=0, description="Time a shutdown may take to commit and release.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Lowest level logged."
    )
    log_format: Literal["auto", "console", "json"] = Field(
        "auto", description="Log lines for people or for machines; auto: console on a terminal."
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
