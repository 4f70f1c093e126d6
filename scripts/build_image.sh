#!/usr/bin/env bash
# Build the image without a Docker engine, as root: scripts/build_image.sh [IMAGE [--stand-in] [BUILDAH OPTIONS...]]
#
# Needs buildah (apt-get install buildah), 45 GB of free disk, and some 12 minutes on two cores. BUILDAH may carry
# options, such as a storage of its own: BUILDAH="buildah --root DIR --runroot DIR".
#
# --stand-in is for networks that cannot reach NVIDIA's base image: the same Ubuntu 24.04 is put together in its place,
# without CUDA (debootstrap). Where such a network has a certificate authority of its own, SSL_CERT_FILE names its file;
# it goes into the stand-in alone.
set -euo pipefail
cd "$(dirname "$0")/.."

read -ra buildah <<<"${BUILDAH:-buildah}"
image=${1:-localhost/talking-video:latest}
shift || true
dockerfile=Dockerfile
scratch=$(mktemp -d)
trap 'rm -rf --one-file-system "$scratch"' EXIT

stand_in() {
    local root=$scratch/root script=/usr/share/debootstrap/scripts/noble container
    [ -e "$script" ] || script=/usr/share/debootstrap/scripts/jammy # older ones do not know the name, the way is the same
    # HTTPS vouches for the archive where Ubuntu's keys are not installed, as on Debian.
    local keys=/usr/share/keyrings/ubuntu-archive-keyring.gpg check=--no-check-gpg
    [ -e "$keys" ] && check=--keyring=$keys
    debootstrap --variant=minbase --components=main,universe --include=ca-certificates "$check" \
        noble "$root" https://archive.ubuntu.com/ubuntu "$script"
    rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
    if [ -n "${SSL_CERT_FILE:-}" ]; then
        install -D "$SSL_CERT_FILE" "$root/usr/local/share/ca-certificates/build-host.crt"
        cp "$SSL_CERT_FILE" "$root/etc/ssl/certs/ca-certificates.crt"
        printf '[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n' >"$root/etc/pip.conf"
    fi
    container=$("${buildah[@]}" from scratch)
    "${buildah[@]}" copy -q "$container" "$root" /
    "${buildah[@]}" config --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
    "${buildah[@]}" commit -q --rm "$container" localhost/cuda-base:stand-in
    dockerfile=$scratch/Dockerfile
    sed 's|^FROM .* AS cuda$|FROM localhost/cuda-base:stand-in AS cuda|' Dockerfile >"$dockerfile"
}

if [ "${1:-}" = --stand-in ]; then
    shift
    stand_in
fi
# Older versions of buildah do not find a stage by the value of an argument: the image itself is given.
base=$(sed -n 's/^FROM \(.*\) AS cuda$/\1/p' "$dockerfile")
# HEALTHCHECK is in Docker's format alone. The layers are kept, so that a change of code does not install all again.
"${buildah[@]}" bud --isolation "${ISOLATION:-chroot}" --format docker --layers --file "$dockerfile" \
    --build-arg "BASE_IMAGE=$base" --build-arg "COMMIT=$(git rev-parse HEAD 2>/dev/null || echo unknown)" \
    --tag "$image" "$@" .
