"""Who sells what at which price: nodes as they come and go, and the order book over their offers."""
