"""From labelled videos to a weights folder: one run, its choices, and its parts."""
