"""What a gateway costs beside its peers: the same load, the same simulated engines, one machine."""
