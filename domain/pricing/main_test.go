package pricing_test

import . "github.com/budgetguard/budgetguard/domain"

// usd reads an amount that a test writes down.
func usd(text string) Amount {
	amount, err := ParseAmount(text)
	if err != nil {
		panic(err)
	}
	return amount
}
