# One image for every component: `docker run payment-engine <component>`. The Python packages come from the hash-pinned lock.
FROM python:3.13-slim AS build
WORKDIR /build
COPY requirements/ requirements/
RUN python -m venv /opt/engine && /opt/engine/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements/cloud.txt
COPY pyproject.toml README.md LICENSE ./
COPY schemas/ schemas/
COPY gateway_adapters/ gateway_adapters/
COPY streams/ streams/
COPY http_ingress/ http_ingress/
RUN /opt/engine/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation .

FROM python:3.13-slim
RUN useradd --system --uid 10001 --create-home engine && install --directory --owner engine /home/engine/ledger
COPY --from=build /opt/engine /opt/engine
ENV PATH=/opt/engine/bin:$PATH PYTHONUNBUFFERED=1
USER 10001
WORKDIR /home/engine
ENTRYPOINT ["payment-engine"]
CMD ["--help"]
