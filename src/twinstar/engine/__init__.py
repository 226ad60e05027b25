"""The databases that Twinstar keeps alive, one folder each."""
