"""Text to token ids and back: chat templates, encoding, block hashes."""
