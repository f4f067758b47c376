"""The promises of the design, each by name, kept by real processes and seen from outside."""
