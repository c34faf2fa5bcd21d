package budgetguard.calendar

weekend if input.weekday in {"saturday", "sunday"}
