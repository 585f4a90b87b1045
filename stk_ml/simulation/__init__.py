"""A real year replayed in compressed time: who asks, what came of it, how it is told. Time comes from an injected clock."""
