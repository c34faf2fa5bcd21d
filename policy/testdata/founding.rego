package budgetguard.policy

default allow = false

allow {
  input.usage < input.budget
}

deny_admin_after_hours {
  input.route == "/admin/tenant-usage"
  input.time > 20
}

allow {
  not deny_admin_after_hours
}
