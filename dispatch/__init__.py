"""Ways out: what turns a delivery into traffic, and the answer into an outcome. It imports only `broker`."""
