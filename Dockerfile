# The program and all that it runs on, without the model: that is fetched onto a volume at the first start.
#
#   docker build -t talking-video .                 (or scripts/build_image.sh, which needs no Docker)
#   docker run --gpus all -p 7860:7860 -v talking-video:/data talking-video
#
# The packages are those of requirements.lock, which scripts/lock.sh renews.

# torch's wheels bring their own CUDA libraries and never look for others: of NVIDIA's images `base` is enough, which
# has hardly any. For a toolkit's libraries in the image give the `runtime` flavour, some 2 GB more:
#   --build-arg BASE_IMAGE=docker.io/nvidia/cuda:12.8.1-runtime-ubuntu24.04@sha256:ebef3c171eeef0298e4eb2e4be843105edf3b8b0ac45e0b43acee358e8046867
ARG BASE_IMAGE=cuda
# A stage of its own, for Dependabot sees no image in the value of an argument.
FROM docker.io/nvidia/cuda:12.8.1-base-ubuntu24.04@sha256:133c78a0575303be34164d0b90137a042172bdf60696af01a3c424ab402d86e2 AS cuda

FROM ${BASE_IMAGE} AS pip
# Versions are not pinned, for the distribution keeps one of each package: a pinned one is gone with its next update.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-pip \
    && rm -rf /var/lib/apt/lists/*
ENV PIP_NO_CACHE_DIR=1 PIP_NO_COMPILE=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

# The lock in two parts. Each stage below takes its own, so that it is made anew only when that part has changed.
FROM pip AS locks
COPY requirements.lock /
RUN awk '/^[a-z]/ { large = /^(torch|triton|nvidia-[a-z0-9-]+|cuda-[a-z-]+)==/ } \
         /^[ a-z]/ { print > (large ? "/torch.lock" : "/packages.lock") }' /requirements.lock

# What goes from torch and NVIDIA's libraries: archives and headers to compile against, what profiles, a solver for
# several GPUs, a second build of NVRTC. No library that is left names them.
# Equal times on all files let equal content be an equal layer, and its bytecode be valid.
FROM pip AS torch
WORKDIR /opt/torch
COPY --from=locks /torch.lock /
RUN pip install --target . --no-deps --require-hashes --only-binary :all: -r /torch.lock \
    && find . -name '*.a' -delete \
    && find torch/bin -type f ! -name torch_shm_manager -delete \
    && rm -r bin torch/include nvidia/*/include nvidia/nvshmem/lib/*.bc \
        nvidia/cusolver/lib/libcusolverMg.so.* nvidia/cuda_nvrtc/lib/*.alt.so.* nvidia/cufft/lib/libcufftw.so.* \
        nvidia/cuda_cupti/lib/libnvperf_*.so nvidia/cuda_cupti/lib/libcheckpoint.so \
        nvidia/cuda_cupti/lib/libpcsamplingutil.so triton/backends/nvidia/lib/cupti triton/instrumentation \
        triton/FileCheck \
    && find . -exec touch -h -d @0 {} + \
    && python3 -m compileall -q -j 0 torch \
    && find . -exec touch -h -d @0 {} +

# The imports prove that nothing that went is missed, and leave the bytecode of what the program uses and no more.
FROM torch AS packages
WORKDIR /opt/packages
COPY --from=locks /packages.lock /
RUN pip install --target . --no-deps --require-hashes --only-binary :all: -r /packages.lock \
    && rm -r bin \
    && find . -type d -name tests -prune -exec rm -r {} + \
    && find . -exec touch -h -d @0 {} +
COPY scripts/import_all.py /
RUN PYTHONPATH=/opt/packages:/opt/torch NUMBA_CACHE_DIR=/tmp python3 /import_all.py \
    && find . -exec touch -h -d @0 {} +

FROM ${BASE_IMAGE}
# The base is as old as its CUDA: what the distribution has mended since comes with the upgrade.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get upgrade -y --no-install-recommends \
    && apt-get install -y --no-install-recommends ca-certificates python3 tini \
    && rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/* \
    && install -d -o 1000 -g 1000 /data /home/app
COPY --from=torch /opt/torch /opt/torch
COPY --from=packages /opt/packages /opt/packages
WORKDIR /app
# The rights of these files are set, for a checkout's may be its owner's alone. What changes most often comes last.
COPY --chmod=755 assets assets
COPY --chmod=755 LICENSE app.py ./
COPY --chmod=755 pipeline pipeline
RUN python3 -m compileall -q app.py pipeline

# NVIDIA's own gate at the start (NVIDIA_REQUIRE_CUDA) can only end the container, which hosts then start again and
# again: the program looks at the driver itself, and says on its page what is wrong and what to do.
# All that is written outside the volume goes below /tmp and HOME: numba's compiled functions and the Hub's notes, too.
ENV HOME=/home/app \
    HOST=0.0.0.0 \
    NUMBA_CACHE_DIR=/tmp/numba \
    NVIDIA_DISABLE_REQUIRE=true \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    NVIDIA_VISIBLE_DEVICES=all \
    PORT=7860 \
    PYTHONPATH=/opt/packages:/opt/torch \
    PYTHONUNBUFFERED=1 \
    RUNPOD_MIN_CUDA_VERSION=12.8 \
    USER=app \
    XDG_CACHE_HOME=/tmp/cache \
    container=oci
USER 1000:1000
EXPOSE 7860
# /healthz answers seconds after the start, also while 46 GB are on their way; the start period is for slow disks.
HEALTHCHECK --interval=30s --timeout=10s --start-period=5m --retries=3 \
    CMD ["python3", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/healthz', timeout=8)"]
ENTRYPOINT ["tini", "--"]
# RunPod sets RUNPOD_ENDPOINT_ID in the workers of a serverless endpoint.
CMD ["sh", "-c", "if [ -n \"$RUNPOD_ENDPOINT_ID\" ]; then exec python3 -m pipeline.serverless; fi; exec python3 app.py"]

ARG VERSION=0
ARG COMMIT=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="Talking video" \
      org.opencontainers.image.description="Turns a portrait and a voice into a talking video with Wan2.2-S2V-14B" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${COMMIT}"
