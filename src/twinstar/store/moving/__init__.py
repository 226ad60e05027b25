"""A cluster's register goes from one store to another while the cluster runs."""
