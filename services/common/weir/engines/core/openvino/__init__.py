"""The OpenVINO backend of the engine core."""
