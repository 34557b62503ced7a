"""The parts under the SSH transport: host keys, the route to a device, logging in, one connection, one channel."""
