"""From settings and a seed to a pair: what a degradation is, recipes, severity, rendering and calibration."""
