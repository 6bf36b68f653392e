# The container image. `docker build .` builds the CPU variant, `--target cuda` the one for NVIDIA GPUs.
# docs/how-to/containers.md explains how to run, upgrade and back it up.

# The Python version that the tests run on. To pin a digest: --build-arg PYTHON_IMAGE=…@sha256:…
ARG PYTHON_IMAGE=python:3.11.15-slim-bookworm
# CTranslate2 in constraints.txt loads libcublas.so.12 and no cuDNN; a test checks that this image matches.
ARG CUDA_IMAGE=nvidia/cuda:12.8.1-runtime-ubuntu24.04


# --- the base of both stages of a variant: Python, tini, the user, and its writable folders --------------------

FROM ${PYTHON_IMAGE} AS cpu-base
# No version pins, since Debian removes old versions from its mirrors.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates tini \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 stenobird \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/stenobird --shell /usr/sbin/nologin \
        stenobird \
    # A new volume takes owner and mode from the image's folder, also if it is mounted below another volume.
    && install -d -o stenobird -g stenobird -m 0750 \
        /var/lib/stenobird /var/lib/stenobird/huggingface /var/lib/stenobird/uploads

FROM ${CUDA_IMAGE} AS cuda-base
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3 tini \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 stenobird \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/stenobird --shell /usr/sbin/nologin \
        stenobird \
    && install -d -o stenobird -g stenobird -m 0750 \
        /var/lib/stenobird /var/lib/stenobird/huggingface /var/lib/stenobird/uploads


# --- the package and its dependencies, wheels only, in a virtual environment ------------------------------------

FROM cpu-base AS cpu-build
# Extras from pyproject.toml, for example "offline" or "mcp".
ARG EXTRAS=""
WORKDIR /src
COPY pyproject.toml constraints.txt tools/container/requirements.py ./
# The secret configures a private package index; it is not stored in the image.
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    python3 -m venv --without-pip /opt/stenobird \
    && python3 requirements.py ${EXTRAS} > requirements.txt \
    && pip --python /opt/stenobird/bin/python install --only-binary=:all: -r requirements.txt -c constraints.txt
COPY README.md LICENSE ./
COPY stenobird ./stenobird
COPY skills ./skills
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    pip --python /opt/stenobird/bin/python install --no-deps .

FROM cuda-base AS cuda-build
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-pip \
    && rm -rf /var/lib/apt/lists/*
ARG EXTRAS=""
WORKDIR /src
COPY pyproject.toml constraints.txt tools/container/requirements.py ./
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    python3 -m venv --without-pip /opt/stenobird \
    && python3 requirements.py ${EXTRAS} > requirements.txt \
    && pip --python /opt/stenobird/bin/python install --only-binary=:all: -r requirements.txt -c constraints.txt
COPY README.md LICENSE ./
COPY stenobird ./stenobird
COPY skills ./skills
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=pip.conf,target=/etc/pip.conf \
    pip --python /opt/stenobird/bin/python install --no-deps .


# --- the final images ---------------------------------------------------------------------------------------------

FROM cuda-base AS cuda
COPY --from=cuda-build /opt/stenobird /opt/stenobird
# Large request bodies pass through TMPDIR, so it is a volume: with a read-only root, /tmp is in memory.
ENV PATH=/opt/stenobird/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TMPDIR=/var/tmp \
    HF_HOME=/var/lib/stenobird/huggingface \
    STENOBIRD_HOST=0.0.0.0 \
    STENOBIRD_PORT=8000 \
    STENOBIRD_DATA_DIR=/var/lib/stenobird
WORKDIR /var/lib/stenobird
VOLUME ["/var/lib/stenobird", "/var/tmp"]
EXPOSE 8000
USER 10001:10001
# Liveness, not readiness: restarting does not help if the database is down or the model still downloads.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 CMD ["stenobird", "health"]
# tini: the kernel does not deliver SIGTERM to a process 1 without a handler, and nobody else reaps orphans.
ENTRYPOINT ["/usr/bin/tini", "--", "stenobird"]
CMD ["serve"]
ARG VERSION=0.1.0
ARG REVISION=""
ARG CREATED=""
LABEL org.opencontainers.image.title="Stenobird (CUDA)" \
    org.opencontainers.image.description="URL in, events out: finds the audio behind any link and streams its transcript." \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.created="${CREATED}"

# `docker build .` builds the last stage.
FROM cpu-base AS cpu
COPY --from=cpu-build /opt/stenobird /opt/stenobird
ENV PATH=/opt/stenobird/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TMPDIR=/var/tmp \
    HF_HOME=/var/lib/stenobird/huggingface \
    STENOBIRD_HOST=0.0.0.0 \
    STENOBIRD_PORT=8000 \
    STENOBIRD_DATA_DIR=/var/lib/stenobird
WORKDIR /var/lib/stenobird
VOLUME ["/var/lib/stenobird", "/var/tmp"]
EXPOSE 8000
USER 10001:10001
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 CMD ["stenobird", "health"]
ENTRYPOINT ["/usr/bin/tini", "--", "stenobird"]
CMD ["serve"]
ARG VERSION=0.1.0
ARG REVISION=""
ARG CREATED=""
LABEL org.opencontainers.image.title="Stenobird" \
    org.opencontainers.image.description="URL in, events out: finds the audio behind any link and streams its transcript." \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}" \
    org.opencontainers.image.created="${CREATED}"
