"""Documented bugs, one YAML file each; `testbed.campaign.case` reads them."""
