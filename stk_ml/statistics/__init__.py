"""Metrics, block-bootstrap intervals and calibration: pure functions of arrays, for gate, rollout and monitors."""
