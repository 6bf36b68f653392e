#!/bin/sh
# Build the image with Docker, Podman or Buildah, whichever is available.
#
#   tools/container/build.sh [cpu|cuda] [more arguments for the build]
#
# The tag is stenobird:<variant>.
set -eu
cd "$(dirname "$0")/../.."

variant=cpu
if [ $# -gt 0 ]; then
    variant=$1
    shift
fi
case $variant in
    cpu | cuda) ;;
    *)
        echo "There is no variant \"$variant\": choose cpu or cuda." >&2
        exit 2
        ;;
esac

# Docker may be installed without a running daemon. Only Docker's image format has health checks.
if docker info >/dev/null 2>&1; then
    set -- docker build "$@"
elif command -v podman >/dev/null 2>&1; then
    set -- podman build --format docker "$@"
elif command -v buildah >/dev/null 2>&1; then
    set -- buildah build --format docker "$@"
else
    echo "No container engine works here: start Docker, or install podman or buildah." >&2
    exit 1
fi

exec "$@" \
    --target "$variant" \
    --tag "stenobird:$variant" \
    --build-arg "VERSION=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)" \
    --build-arg "REVISION=$(git rev-parse HEAD 2>/dev/null || true)" \
    --build-arg "CREATED=$(date -u +%Y-%m-%dT%H:%M:%SZ)" \
    .
