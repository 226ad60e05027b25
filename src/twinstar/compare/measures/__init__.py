"""One module for each measure: it acts on a cluster and returns its result with the series that it was made from."""
