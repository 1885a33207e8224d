# Both programs, static, in an image that runs as nobody in particular.
# Where the base images were checked: docs/compose.md.
FROM golang:1.26.3-trixie AS build
# The toolchain that go.mod names, not the image's own.
ENV GOTOOLCHAIN=auto CGO_ENABLED=0
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
RUN go build -trimpath -ldflags="-s -w" -o /out/ ./cmd/baas ./cmd/baas-executor \
 && mkdir -p /out/data/store /out/tmp

FROM debian:trixie-20260406-slim AS certificates
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates

FROM scratch
COPY --from=certificates /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/baas /out/baas-executor /usr/local/bin/
# A new volume takes over the owner of the directory that it is mounted on.
COPY --from=build --chown=65532:65532 /out/data /var/lib/baas
COPY --from=build --chown=65532:65532 --chmod=1777 /out/tmp /tmp
ENV HOME=/var/lib/baas PATH=/usr/local/bin
USER 65532:65532
VOLUME /var/lib/baas
ENTRYPOINT ["/usr/local/bin/baas"]
CMD ["--help"]
