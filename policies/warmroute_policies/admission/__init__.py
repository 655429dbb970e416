"""Who may go, who waits, and in which order, when more is asked than the fleet can do.

ticket    one request that asks to be let in
fair      within a class and a model: equal shares of cost for tenants
crowd     how many tickets each tenant has waiting, and who has most
queue     all that wait: classes by weight, tenants by cost, deadlines, who makes way
buckets   requests and prompt tokens per second, by tenant
pace      how fast room appears, so how long to wait

Values in, decisions out: nothing here knows a socket or a clock. What is done about a decision is the
router's affair (`warmroute.admission`).
"""
