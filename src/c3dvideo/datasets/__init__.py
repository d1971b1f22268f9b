"""Labelled videos and their splits."""
