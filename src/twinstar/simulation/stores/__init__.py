"""The stores that are played: models of real ones, asked by the real clients where there are servers to ask."""
