package budgetguard.policy_test

import data.budgetguard.policy

test_cheap_requests_pass if {
	policy.allow with input as {"estimate": 0.5}
}

test_dear_requests_do_not if {
	not policy.allow with input as {"estimate": 1}
}

test_weekends[day] if {
	some day, denied in {"friday": 0, "saturday": 1, "sunday": 1}
	count(policy.deny) == denied with input as {"model": "o1-pro", "weekday": day}
}
