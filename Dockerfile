# The engine as an image: built from this source alone, run by nobody in particular.
#
# Two stages. The first compiles with the locked versions and downloads nothing but what Cargo.lock names; the second is a
# slim Debian with the one binary. No build-time secret, no cache mount: an engine without BuildKit builds it as well.

# The version is Cargo.toml's `rust-version`; scripts/check-containers holds the two together.
FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --package nexus-server \
    && install -D --mode=0755 "${CARGO_TARGET_DIR:-target}/release/nexus" /out/nexus

FROM debian:bookworm-slim
LABEL org.opencontainers.image.title="Nexus" \
      org.opencontainers.image.description="Trade signals in, risk-checked orders out" \
      org.opencontainers.image.source="https://github.com/nexus-engine/nexus" \
      org.opencontainers.image.licenses="MIT"
# Certificates for connections to databases and venues. The number of the user is fixed, so that a volume keeps its owner
# when the image is built anew.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --system --gid 10001 nexus \
    && useradd --system --uid 10001 --gid nexus --home-dir /var/lib/nexus --no-create-home --shell /usr/sbin/nologin nexus \
    && install --directory --owner=nexus --group=nexus --mode=0700 /var/lib/nexus
COPY --from=build /out/nexus /usr/local/bin/nexus
ENV ENVIRONMENT=production \
    API_HOST=0.0.0.0 \
    API_PORT=8000 \
    LOG_FORMAT=json \
    NEXUS_DATA_DIR=/var/lib/nexus
USER 10001:10001
WORKDIR /var/lib/nexus
VOLUME /var/lib/nexus
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["nexus", "healthcheck"]
ENTRYPOINT ["nexus"]
CMD ["serve"]
