"""The server: producers, consumers and operators that speak HTTP, and know neither this package nor Redis."""
