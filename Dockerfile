# An image that serves: the programs and the libraries they need, on Debian 12. Its steps are the scripts that a person
# runs; how to start it on one host or several is in docs/OPERATING.md, "Containers".
#   docker build -t dinfer .                          CPUs
#   docker build -t dinfer --build-arg CUDA=--cuda .  CPUs and NVIDIA GPUs (brings a toolkit for the build, cuBLASLt and NCCL)
FROM debian:12-slim AS build
ARG CUDA=
WORKDIR /dinfer
COPY scripts/setup scripts/
RUN scripts/setup $CUDA
COPY . .
RUN scripts/build release --target dinfer-node dinfer $(test -z "$CUDA" || echo dinfer_cuda)
RUN scripts/stage_image /staged

FROM debian:12-slim
COPY scripts/setup /tmp/
RUN /tmp/setup --runtime && rm -rf /tmp/setup /var/lib/apt/lists/*
COPY --from=build /staged /usr/local
RUN useradd --system --create-home dinfer
USER dinfer
ENTRYPOINT ["dinfer-node"]
