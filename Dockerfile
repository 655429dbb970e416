# One image for the router and for emulated engines (`--entrypoint simulator`).
#
#   docker build -t warmroute:0.1.0 --build-arg VERSION=0.1.0 --build-arg REVISION="$(git rev-parse HEAD)" .
#
# Bases are pinned by version. Whoever builds knows the digests of their own registry and can pin those too:
#   --build-arg BUILDER_IMAGE=python:3.11.14-bookworm@sha256:…  --build-arg RUNTIME_IMAGE=…
# Builder and runtime must be of one Python version and one Debian: the environment is copied between them.
ARG PYTHON_VERSION=3.11.14
ARG BUILDER_IMAGE=python:${PYTHON_VERSION}-bookworm
ARG RUNTIME_IMAGE=python:${PYTHON_VERSION}-slim-bookworm

FROM ${BUILDER_IMAGE} AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src

# Every file that comes from a package index is checked against the lock here; nothing is fetched after this.
COPY deploy/requirements-image.lock ./
RUN pip download --require-hashes --only-binary :all: --dest /wheels --requirement requirements-image.lock \
    && pip install --no-index --no-deps /wheels/*.whl

# The hook compiles the hot modules. Without a compiler it would make a wheel that is only slower: not here.
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY policies policies
COPY router router
COPY simulator simulator
RUN pip wheel --no-index --no-deps --no-build-isolation --wheel-dir /dist . \
    && ls /dist/warmroute-*-cp3*.whl

# Of what was fetched, only what the router and these extras need; no pip, no build tools.
ARG EXTRAS=otel,dns,kubernetes,exact
# There is no index to choose from, so no version needs a pin: one of each lies in these folders.
# hadolint ignore=DL3013
RUN python -m venv --without-pip /opt/warmroute \
    && pip --python /opt/warmroute/bin/python install --no-index --find-links /wheels --find-links /dist \
        "warmroute[${EXTRAS}]"

FROM ${RUNTIME_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="warmroute" \
      org.opencontainers.image.description="A cache-aware router for fleets of LLM inference engines" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

COPY --from=builder /opt/warmroute /opt/warmroute
COPY deploy/image/healthcheck.py /opt/warmroute/healthcheck.py

# A container's loopback is nobody's. Variables win over a file: give another port as ROUTER_PORT, so that the
# health check, which reads these two, follows.
ENV PATH=/opt/warmroute/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    ROUTER_HOST=0.0.0.0 \
    ROUTER_PORT=30000

# Any other number will do as well: nothing is written, so the root filesystem may be read-only, without a /tmp.
USER 65532:65532
WORKDIR /
EXPOSE 30000

# Up, not ready: a router without a healthy worker must not be restarted. The first check of the workers may
# take health_timeout_s before the port opens.
HEALTHCHECK --interval=15s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "/opt/warmroute/healthcheck.py"]

ENTRYPOINT ["router"]
