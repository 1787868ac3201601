"""The order book: which machine does a job for the lowest expected total."""


class OrderBook:
    """Offers in memory, rebuilt from the store."""
