"""Rain: ordinary PCs on a network, one compute pool."""
