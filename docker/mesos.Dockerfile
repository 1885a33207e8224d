# A Mesos master and agent. Apache Mesos is retired and publishes no image; this one
# installs the packages of the fork that is still kept (docs/compose.md says where
# that was checked). The package comes by plain HTTP from its maintainers: give
# MESOS_SHA256 the sum of the file that you have examined, or the build stops.
FROM ubuntu:jammy
ARG MESOS_DEB=http://rpm.aventer.biz/Ubuntu/jammy/pool/main/a/aventer-mesos/aventer-mesos_1.11.0-0.4.0_amd64.deb
ARG MESOS_SHA256
RUN test -n "$MESOS_SHA256" || { echo "MESOS_SHA256 is not set; see docs/compose.md" >&2; exit 1; }
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates curl libapr1 libsvn1 libunwind8 \
      libevent-core-2.1-7 libevent-openssl-2.1-7 libevent-pthreads-2.1-7 \
 && curl -fsSL -o /tmp/mesos.deb "$MESOS_DEB" \
 && echo "$MESOS_SHA256  /tmp/mesos.deb" | sha256sum --check --strict \
 && apt-get install -y --no-install-recommends /tmp/mesos.deb \
 && rm -rf /tmp/mesos.deb /var/lib/apt/lists/*
