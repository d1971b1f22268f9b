# C3D features on a CPU:
#   docker build -f docker/cpu.Dockerfile -t c3dvideo .
#   docker run --rm -v "$PWD":/data c3dvideo extract my_videos --out features
FROM python:3.11-slim

# The compiler builds the CPU kernels for the processor at hand on first use.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src ./src
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu \
        --constraint constraints.txt ".[all]" \
    && useradd --create-home --uid 1000 user \
    && install --directory --owner user /cache /data

USER 1000
ENV C3DVIDEO_CACHE=/cache
WORKDIR /data
ENTRYPOINT ["c3dvideo"]
CMD ["--help"]
