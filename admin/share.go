package admin

import (
	"encoding/json"

	"github.com/budgetguard/budgetguard/domain"
)

// shares reads an array of thresholds. What range they may have is the domain's to say.
func (f fields) shares(name string) []domain.Threshold {
	list, ok := f.list(name)
	if !ok {
		return nil
	}
	thresholds := make([]domain.Threshold, 0, len(list))
	for _, element := range list {
		number, _ := element.(json.Number)
		threshold, err := domain.ParseThreshold(number.String())
		if err != nil {
			f.refuse(name, "%s", reason(err))
			return nil
		}
		thresholds = append(thresholds, threshold)
	}
	return thresholds
}
