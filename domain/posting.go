package domain

// accountsOf are the accounts that postings touch.
func accountsOf(postings []Posting) []AccountID {
	ids := make([]AccountID, len(postings))
	for i := range postings {
		ids[i] = postings[i].Account
	}
	return ids
}

// Postings are the balances an event assigns, in the order of the accounts it touched. Most
// administrative events have none.
func Postings(e Event) []Posting {
	switch e := e.(type) { //nolint:gochecksumtype // the others post nothing
	case BudgetChanged:
		return e.Postings
	case WindowSlid:
		return e.Postings
	case UsageReserved:
		return e.Postings
	case ReservationExtended:
		return e.Postings
	case UsageSettled:
		return e.Postings
	case ReservationReleased:
		return e.Postings
	case ReservationExpired:
		return e.Postings
	case UsageSettledLate:
		return e.Postings
	case UsageAdjusted:
		return e.Postings
	}
	return nil
}
