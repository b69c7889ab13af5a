"""Who uses a connection: leases, declared consumers, and the gate that keeps an old credential alive for them."""
