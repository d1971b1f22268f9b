"""Search: stored features in a vector index, nearest clips and videos, and duplicates."""
