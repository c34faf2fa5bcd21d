package budgetguard.policy

default allow = false

allow {
  input.estimate < data.limits.requestUsd
}
