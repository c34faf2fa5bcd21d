package projections_test

import (
	"fmt"
	"time"

	"github.com/budgetguard/budgetguard/domain"
	"github.com/budgetguard/budgetguard/projections"
)

// What stands on the stream for an event, and how a subscriber of ours reads it.
func ExampleMessage() {
	event := domain.BudgetRetired{Budget: "bud_1", Actor: "admin"}
	body, err := domain.EncodeEvent(event)
	if err != nil {
		panic(err)
	}
	m := projections.Message(domain.Recorded{
		Tenant: "acme", Version: 7, Time: time.Date(2026, time.November, 22, 9, 30, 0, 0, time.UTC), Event: event, Body: body,
	})
	fmt.Println(string(m.Payload))

	r, err := projections.Decode(m.Payload)
	if err != nil {
		panic(err)
	}
	fmt.Println(r.Tenant, r.Version, domain.TypeOf(r.Event))
	// Output:
	// {"specversion":"1.0","id":"acme:7","source":"/tenants/acme","type":"budgetguard.budget.retired.v1","time":"2026-11-22T09:30:00Z","datacontenttype":"application/json","subject":"bud_1","sequence":"7","data":{"budgetId":"bud_1","actor":"admin"}}
	// acme 7 budget.retired
}
