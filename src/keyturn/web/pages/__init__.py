"""One file per place of the site map: reads what was asked, calls operations, chooses a template."""
