"""A real year replayed in compressed time: who asks, what came of it, how it is told. The clock is injected."""
