"""The APIs as clients know them: what is asked, how it is refused, what is answered. Pure."""
