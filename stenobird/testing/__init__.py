"""Shipped fakes and the loopback world: what the tests, and whoever extends Stenobird, build on."""
