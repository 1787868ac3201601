"""Studio: the pages through which people who are not technical teach an AI, and what a renter does for them."""
