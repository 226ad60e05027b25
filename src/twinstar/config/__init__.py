"""`twinstar.yaml`: typed, checked at the border, documented."""
