"""The declarative side of connectors: reader, expression set, lint and interpreter of `rest-credential/v1`."""
