"""SAP Datasphere: database users whose passwords the server makes."""
