"""What a connector is: the values it takes and gives, and the capabilities it may have."""
