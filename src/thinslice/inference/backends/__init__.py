"""What runs a network: torch, OpenVINO; which one is used, and the golden case on which they must agree."""
