"""The web page over a folder of features: look, search, label, classify."""
