"""The canary: no secret of the lab, of a person or of the hub itself lies anywhere but in the vault's sealed rows."""
