package budgetguard.policy

import data.budgetguard.calendar

deny contains sprintf("%s is not for weekends", [input.model]) if {
	calendar.weekend
	input.model in data.limits.weekdayModels
}
