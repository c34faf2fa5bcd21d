# The policy of an installation that has not written its own.
#
# It allows everything and looks at no balance: budgets belong to the ledger,
# which reserves before it forwards and answers 402 when a budget is exhausted.
# A rule here would answer 403 first, and from numbers that may have moved.
#
# To replace it, point OPA_POLICY_PATH at a file that begins like this one and
# adds messages that deny, for example:
#
#   deny contains "gpt-4 is for office hours" if {
#     startswith(input.model, "gpt-4")
#     not input.time in numbers.range(8, 17)
#   }
package budgetguard.policy

default allow := true
