# syntax=docker/dockerfile:1
# nearcast as a small image: built from source, run by a user without rights, its data under /data.

FROM rust:1.95-bookworm AS build
# This image's gcc and make are all that rdkafka's C library needs; Milvus' client brings its own protoc.
WORKDIR /src
COPY . .
# The caches hold fetched and built dependencies between builds, and are no part of any layer.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin nearcast \
 && install -D --strip target/release/nearcast /out/nearcast

FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates curl \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --create-home --home-dir /data nearcast
COPY --from=build /out/nearcast /usr/local/bin/nearcast
USER nearcast
WORKDIR /data
VOLUME /data
ENV NEARCAST__LOG__FORMAT=json
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
  CMD ["curl", "--fail", "--silent", "--show-error", "--output", "/dev/null", "http://127.0.0.1:8080/health/ready"]
ENTRYPOINT ["nearcast"]
CMD ["run", "--listen", "0.0.0.0:8080", "--data-dir", "/data"]
