package budgetguard.policy_test

import data.budgetguard.policy

test_allows_without_any_input if {
	policy.allow with input as {}
}

test_allows_a_request_within_its_budget if {
	policy.allow with input as {"route": "/v1/chat/completions", "usage": 1, "budget": 10}
}

test_leaves_an_exhausted_budget_to_the_ledger if {
	policy.allow with input as {"route": "/v1/chat/completions", "usage": 10, "budget": 10}
}

test_allows_admin_routes_at_any_hour if {
	every hour in numbers.range(0, 23) {
		policy.allow with input as {"route": "/admin/tenant-usage", "admin": true, "time": hour}
	}
}
