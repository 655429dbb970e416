"""What tests of grafana/ share.

expressions  the queries of panels and rules, as they stand in the checked-in files, and the series they name
prometheus   a real Prometheus and promtool: found, else fetched, else the test is skipped
"""
