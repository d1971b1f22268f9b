# C3D features on NVIDIA GPUs; PyTorch brings its CUDA libraries, the host needs the driver and the container toolkit:
#   docker build -f docker/cuda.Dockerfile -t c3dvideo:cuda .
#   docker run --rm --gpus all -v "$PWD":/data c3dvideo:cuda extract my_videos --out features --precision bf16
FROM python:3.11-slim

# The compiler builds Triton's launcher and the kernels that decode and resize on the host.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src ./src
RUN pip install --no-cache-dir --constraint constraints.txt ".[all]" \
    && useradd --create-home --uid 1000 user \
    && install --directory --owner user /cache /data

USER 1000
ENV C3DVIDEO_CACHE=/cache NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /data
ENTRYPOINT ["c3dvideo"]
CMD ["--help"]
