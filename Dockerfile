# Needs BuildKit, which is the default since Docker 23; no other frontend is fetched for it.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
ARG VERSION=dev
ENV CGO_ENABLED=0 GOFLAGS=-buildvcs=false
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /budgetguard ./cmd/budgetguard
RUN mkdir /state

# No shell, no package manager, not root; time zones are in the binary, certificates in the image.
FROM gcr.io/distroless/static-debian12:nonroot
LABEL org.opencontainers.image.source="https://github.com/budgetguard/budgetguard" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.description="An LLM gateway that stops spend before it happens"
COPY --from=build /budgetguard /budgetguard
COPY LICENSE /LICENSE
# A volume here (RECORDER_DIR=/var/lib/budgetguard/recorder) takes over that it belongs to nonroot.
COPY --from=build --chown=65532:65532 /state /var/lib/budgetguard
USER nonroot:nonroot
EXPOSE 3000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=4s --start-period=20s --retries=3 CMD ["/budgetguard", "health"]
ENTRYPOINT ["/budgetguard"]
CMD ["serve"]
