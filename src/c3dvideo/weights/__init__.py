"""Load, import, download and check network weights."""
