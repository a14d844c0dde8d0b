# One image for every worker; the command chooses which.
FROM python:3.11.13-slim-bookworm

# The root may be read-only: what is written, but for what volumes keep, is in /tmp.
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 OPENBLAS_NUM_THREADS=1 HOME=/tmp NUMBA_CACHE_DIR=/tmp/numba
WORKDIR /app

# An index with the CPU wheel of torch makes the image some gigabytes smaller: --build-arg TORCH_INDEX=URL
ARG TORCH_INDEX=""
RUN if [ -n "$TORCH_INDEX" ]; then export PIP_INDEX_URL="$TORCH_INDEX"; fi; pip install torch==2.13.0

COPY pyproject.toml README.md LICENSE ./
COPY headwater headwater
COPY models models
COPY streams streams
COPY trainer trainer
COPY serving serving
COPY viewing viewing
COPY gateway gateway
COPY replay replay
COPY chaos chaos
COPY recovery recovery
COPY console console
COPY embedded embedded
RUN pip install ./headwater '.[cloud,backup,signing]' \
    && useradd --create-home headwater \
    && mkdir -p /var/lib/headwater/trainer \
    && chown -R headwater /var/lib/headwater
USER headwater

# Every worker serves /healthz on the same port.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:9100/healthz', timeout=2)"]
CMD ["headwater", "--help"]
