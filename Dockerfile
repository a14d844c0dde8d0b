# An image for every worker and command (the last stage, and what `docker build .` makes), and one for each worker that never
# learns, without torch: docker build --target gateway|streams|serving. The command chooses what runs.
FROM python:3.11.13-slim-bookworm AS base

# The root may be read-only: what is written, but for what volumes keep, is in /tmp.
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 OPENBLAS_NUM_THREADS=1 HOME=/tmp NUMBA_CACHE_DIR=/tmp/numba \
    HEADWATER_OPERATIONS__PORT=9100
RUN useradd --uid 1000 --create-home headwater \
    && mkdir -p /var/lib/headwater/trainer \
    && chown -R headwater /var/lib/headwater
WORKDIR /var/lib/headwater

# Every worker serves /healthz on this port, unless its settings have another.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:9100/healthz', timeout=2)"]


FROM base AS wheels
WORKDIR /app
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
COPY deploy/supply.py deploy/supply.py
# Extras of pyproject.toml that every image has.
ARG EXTRAS=cloud,backup,signing,otel,grpc
RUN pip wheel --no-deps -w /wheels ./headwater . \
    && for worker in gateway streams serving; do python deploy/supply.py needs $worker $EXTRAS >/wheels/$worker.txt; done


FROM base AS gateway
RUN --mount=type=bind,from=wheels,source=/wheels,target=/wheels pip install -r /wheels/gateway.txt /wheels/headwater-*.whl \
    && pip install --no-deps /wheels/headwater_engine-*.whl
USER headwater
CMD ["python", "-m", "gateway.worker"]


FROM base AS streams
RUN --mount=type=bind,from=wheels,source=/wheels,target=/wheels pip install -r /wheels/streams.txt /wheels/headwater-*.whl \
    && pip install --no-deps /wheels/headwater_engine-*.whl
USER headwater
CMD ["python", "-m", "streams.worker"]


FROM base AS serving
RUN --mount=type=bind,from=wheels,source=/wheels,target=/wheels pip install -r /wheels/serving.txt /wheels/headwater-*.whl \
    && pip install --no-deps /wheels/headwater_engine-*.whl
USER headwater
CMD ["python", "-m", "serving.worker"]


FROM base AS everything
# An index with the CPU wheel of torch makes the image some gigabytes smaller: --build-arg TORCH_INDEX=URL
ARG TORCH_INDEX=""
RUN if [ -n "$TORCH_INDEX" ]; then export PIP_INDEX_URL="$TORCH_INDEX"; fi; pip install torch==2.13.0
ARG EXTRAS=cloud,backup,signing,otel,grpc
RUN --mount=type=bind,from=wheels,source=/wheels,target=/wheels \
    pip install /wheels/headwater-*.whl "$(ls /wheels/headwater_engine-*.whl)[$EXTRAS]"
USER headwater
CMD ["headwater", "--help"]
