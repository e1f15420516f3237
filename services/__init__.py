"""The four services, and what they share: the hash chain, settings, serving."""
