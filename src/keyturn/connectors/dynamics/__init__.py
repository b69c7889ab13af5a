"""Microsoft Dynamics 365 (Dataverse), reached as an application registered in Microsoft Entra ID."""
